"""Skylark: stateful serverless functions on moving nodes.

Most functions need two lines: `from libskylark import Function` and `app = Function("name", emits="type")`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libskylark.emission import Reply
    from libskylark.errors import BadInput, SettingError, SkylarkError
    from libskylark.event import Event
    from libskylark.execution import Context
    from libskylark.function import Function

__all__ = ["BadInput", "Context", "Event", "Function", "Reply", "SettingError", "SkylarkError", "__version__"]

__version__ = "0.1.0"

# Imported when they are asked for: `skylark --help` takes neither Flask nor Redis.
_MODULES = {
    "BadInput": "errors",
    "SettingError": "errors",
    "SkylarkError": "errors",
    "Event": "event",
    "Context": "execution",
    "Reply": "emission",
    "Function": "function",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
