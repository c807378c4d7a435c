"""The documentation, and in docs/generator what writes its reference from the code."""
