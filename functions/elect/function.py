"""The node's elect service: `gunicorn --chdir functions/elect function:app`."""

from __future__ import annotations

from libskylark.services.elect import create_app

app = create_app()
