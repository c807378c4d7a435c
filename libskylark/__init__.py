"""Skylark: stateful serverless functions on moving nodes.

Most functions need two lines: `from libskylark import Function` and `app = Function("name", emits="type")`.
"""

from __future__ import annotations

from libskylark.errors import BadInput, SettingError, SkylarkError
from libskylark.event import Event
from libskylark.execution import Context, Reply
from libskylark.function import Function

__all__ = ["BadInput", "Context", "Event", "Function", "Reply", "SettingError", "SkylarkError", "__version__"]

__version__ = "0.1.0"
