"""`python -m libskylark.cli` is the `skylark` command."""

from __future__ import annotations

from libskylark.cli.main import main

main()
