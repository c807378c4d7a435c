"""The node's node-info service: `gunicorn --chdir functions/node_info function:app`."""

from __future__ import annotations

from libskylark.services.node_info import create_app

app = create_app()
