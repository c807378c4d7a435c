"""gunicorn's file of settings for a broker that looks at its files four times a second: tests wait for two looks."""

from __future__ import annotations

from libskylark.eventing import watching

setattr(watching, "_POLL_S", 0.25)  # the worker is forked from the process that reads this
