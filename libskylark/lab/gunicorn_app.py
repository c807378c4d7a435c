"""What gunicorn is told alike in the lab and in an image: one worker, its threads, and how an application is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from gunicorn import util
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger

from libskylark.errors import SkylarkError
from libskylark.lab.process import WorkerClass
from libskylark.tracing import configure_tracing

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  gunicorn removes its file's name at once


def worker_settings(worker_class: WorkerClass, threads: int) -> dict[str, Any]:
    """gunicorn's settings by name; `worker_class` itself is left to the caller. Nothing is written to a disk."""
    return {
        "workers": 1,
        "threads": threads if worker_class == "gthread" else 1,
        "worker_tmp_dir": str(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None,
        "asgi_loop": "uvloop",
        "control_socket_disable": True,
        "logger_class": GunicornLogger,
    }


class GunicornLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's lines among those of its application."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True


def load_app(app: str, role: str, node: str) -> Any:
    """The application `module:name`, in the process that serves it.

    Where a user's file or setting is wrong, gunicorn says so without our stack.
    """
    try:
        configure_tracing(role, node, os.environ)
        return util.import_app(app)
    except SkylarkError as error:
        raise AppImportError(str(error)) from None
