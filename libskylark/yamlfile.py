"""YAML files as validated models: every fault is reported with its file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from libskylark.errors import DocumentError, Fault

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

# What ruamel raises for scalars such as `+_` or `2026-13-01`.
_SCALAR_ERRORS: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document of a file, with the positions of its keys."""

    file: str
    content: CommentedMap
    first_line: int

    def line(self, location: Location) -> int:
        """Line (1-based) of the deepest part of `location` that the document has."""
        line = self.first_line
        node: Any = self.content
        for part in location:
            if isinstance(node, CommentedSeq):
                found = isinstance(part, int) and part < len(node)
            else:
                found = isinstance(node, CommentedMap) and part in node
            if not found:
                break
            # What an alias merges in has no line of its own here.
            place = (node.lc.data or {}).get(part)
            line = place[0] + 1 if place else line
            node = node[part]
        return line

    def fault(self, location: Location, message: str) -> Fault:
        return Fault(self.file, self.line(location), dotted(location), message)

    def validate(self, model: type[Model]) -> Model:
        """The document as `model`; raises DocumentError with every fault."""
        try:
            return model.model_validate(self.content)
        except ValidationError as error:
            raise DocumentError([self._fault_of(detail) for detail in error.errors()]) from None

    def _fault_of(self, detail: ErrorDetails) -> Fault:
        # Pydantic adds the names of union members to the location; only what the file has can be shown.
        location = tuple(part for part in detail["loc"] if not str(part).endswith("]"))
        message, found = detail["msg"].removeprefix("Value error, "), f"found {detail['input']!r}"
        if detail["type"] == "extra_forbidden":
            message = "unknown field"
        elif detail["type"] == "missing":
            message = "is required"
        elif not isinstance(detail["input"], dict | list) and not message.startswith(found):
            message = f"{found}: {message}"
        return self.fault(location, message)


def dotted(location: Location) -> str:
    """`("spec", "filters", 0)` as `spec.filters[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_documents(path: Path) -> Iterator[Document]:
    """Every non-empty document of the file at `path`; raises DocumentError where it is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
        yaml = YAML(typ="rt")
        yaml.composer.warn_double_anchors = False  # YAML allows them
        documents = list(yaml.load_all(text))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise DocumentError([Fault(str(path), line, "", f"not YAML: {error.problem}")]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DocumentError([Fault(str(path), 0, "", f"not YAML: {reason}")]) from None
    except OSError as error:
        raise DocumentError([Fault(str(path), 0, "", f"cannot be read: {error.strerror}")]) from None
    except RecursionError:
        raise DocumentError([Fault(str(path), 0, "", "not YAML that can be read: it is nested too deep")]) from None
    except _SCALAR_ERRORS as error:
        raise DocumentError([Fault(str(path), 0, "", f"not YAML: a value cannot be read: {error!r}")]) from None
    for content in documents:
        if content is None:
            continue
        if not isinstance(content, CommentedMap):
            found = type(content).__name__
            raise DocumentError([Fault(str(path), 1, "", f"found a {found}, expected a mapping of fields")])
        yield Document(str(path), content, content.lc.line + 1)


def read_one(path: Path, model: type[Model]) -> tuple[Model, Document]:
    """The single document of `path` as `model`."""
    documents = list(read_documents(path))
    if len(documents) != 1:
        raise DocumentError([Fault(str(path), 0, "", f"found {len(documents)} documents, expected one")])
    return documents[0].validate(model), documents[0]


def replace_fields(path: Path, fields: Mapping[str, Any]) -> None:
    """Gives top-level fields of the single document of `path` new values (None takes a field out); comments stay."""
    yaml = YAML(typ="rt")
    yaml.width = 110
    document = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def dump(content: Any) -> str:
    """`content` as YAML, block style, keys in the given order."""
    from io import StringIO

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel's hint is None
    yaml.width = 110
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
