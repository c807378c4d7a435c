"""The workflow of four stages, alone and many at once: our policies and the original's side by side."""
