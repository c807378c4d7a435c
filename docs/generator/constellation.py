"""The page about deployment/constellation.yaml: every field, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_origin

from pydantic import BaseModel

from docs.generator.fields import default, form
from libskylark.constellation import ConstellationSpec


def constellation_page() -> str:
    """Every field, with those of what it holds below it."""
    lines = [
        "# constellation.yaml\n",
        "The one description of the nodes: who is there, what links them, who runs where. It is",
        "`deployment/constellation.yaml` in a project; without it, one node runs everything. `skylark check` names",
        "every fault with its line. `[]` stands for each item of a list, `NAME` for a key of your own.\n",
        "| field | default | form | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(cells)} |" for cells in _fields(ConstellationSpec, "")]
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], above: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        inner = _model_within(field.annotation)
        path = f"{above}{name}"
        told = _holds(field.annotation) or ("" if inner else form(name, field))
        yield f"`{path}`", default(field), told, field.description or ""
        if inner is not None:
            mark = {"list": "[].", "mapping": ".NAME."}.get(_holds(field.annotation), ".")
            yield from _fields(inner, f"{path}{mark}")


def _holds(annotation: object) -> str:
    """`list` or `mapping` where that is what a field is; empty for others."""
    origin = get_origin(annotation)
    return "list" if origin is list else "mapping" if origin is dict else ""


def _model_within(annotation: object) -> type[BaseModel] | None:
    """The model that a field, or each item of it, is."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_within(inner)) is not None), None)
