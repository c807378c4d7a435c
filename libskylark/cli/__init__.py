"""The `skylark` command."""
