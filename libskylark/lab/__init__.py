"""The whole constellation on one machine: its processes, and the links between its nodes."""
