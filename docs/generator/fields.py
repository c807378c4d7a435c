"""How a field of a model is told: its default, what a value looks like, its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from libskylark.config import parse_duration_s

_MIB: Final = 1024 * 1024
#: Units by the end of a field's name; a duration says its own.
_UNITS: Final = {"_bytes": "bytes", "_ms": "ms", "_mbps": "Mbit/s", "port": "port"}


def default(field: FieldInfo) -> str:
    """The default as a reader would write it."""
    if field.is_required():
        return "required"
    if field.default is None:
        return "unset"
    if isinstance(field.default, BaseModel):
        return ""
    if field.default in ("", [], {}):
        return "empty"
    value = f"{field.default:g}" if isinstance(field.default, float) else field.default
    value = f"{value} s" if _is_duration(field) else value
    size = f" ({field.default // _MIB} MiB)" if isinstance(field.default, int) and field.default >= _MIB else ""
    return f"`{value}`{size}"


def form(name: str, field: FieldInfo) -> str:
    """What a value looks like, with the bounds that it has; `name` is the field's."""
    kinds = [kind for kind in _plain_types(field.annotation) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        return " or ".join(f"`{kind}`" for kind in kinds)
    bounds = {key: getattr(mark, key) for mark in field.metadata for key in ("ge", "le") if hasattr(mark, key)}
    limits = "".join(f" {word} {bounds[key]:,}" for key, word in (("ge", "from"), ("le", "to")) if key in bounds)
    if _is_duration(field):
        return f"duration,{limits} s" if limits else "duration"
    if kinds[0] in (int, float):
        unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "number")
        return unit if unit == "port" else f"{unit}{limits}"
    return {SecretStr: "secret", Path: "path"}.get(kinds[0], "text")


def _is_duration(field: FieldInfo) -> bool:
    return any(isinstance(mark, BeforeValidator) and mark.func is parse_duration_s for mark in field.metadata)


def _plain_types(annotation: Any) -> list[Any]:
    """The types, or the values of a Literal, that an annotation stands for, without their marks."""
    if get_origin(annotation) is Annotated:
        return _plain_types(get_args(annotation)[0])
    inner = get_args(annotation)
    if not inner or get_origin(annotation) is Literal:
        return list(inner or (annotation,))
    return [kind for each in inner for kind in _plain_types(each)]
