"""An expression as its users have it: compiled when it is made, evaluated against one event after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from libskylark.errors import ExpressionError
from libskylark.eventing.cesql.compiler import compile_node
from libskylark.eventing.cesql.functions import find_function
from libskylark.eventing.cesql.syntax import Attribute, Call, Comparison, Literal, Logic, Node
from libskylark.eventing.cesql.values import ZERO, Attributes, ErrorKind, Failure, Type, Value


class Outcome(NamedTuple):
    """A result, always, and beside it the kind of the first error and what it says, where there was one."""

    result: Value
    error: ErrorKind | None = None
    message: str = ""


class Expression:
    """Raises ExpressionError for a text that cannot be parsed; everything else shows when it is evaluated."""

    def __init__(self, text: str) -> None:
        # Lark takes 10 MiB and 40 ms: a broker without such filters does without.
        from libskylark.eventing.cesql.parser import parse

        root = parse(text)
        compiled = compile_node(root)
        self.text: Final = text
        self.required: Final = frozenset(_required(root))
        """Pairs (attribute, value) that every event which the expression takes has."""
        self.missing: Final = [*dict.fromkeys(_missing(root))]
        """What it calls and there is not: an expression that comes to it ends in an error."""
        self._run = compiled.run
        self._zero = ZERO[compiled.type or Type.BOOLEAN]
        self._is_call = isinstance(root, Call)

    def evaluate(self, attributes: Attributes) -> Outcome:
        """Stops at the first error: the result then is the function's own beside it, or the zero of its type."""
        try:
            return Outcome(self._run(attributes))
        except Failure as failure:
            has_own = self._is_call and failure.value is not None
            return Outcome(failure.value if has_own else self._zero, failure.kind, str(failure))  # type: ignore[arg-type]

    def matches(self, attributes: Attributes) -> bool:
        """Whether the expression, as a filter, takes an event: true, a Boolean, and without an error."""
        try:
            return self._run(attributes) is True
        except Failure:
            return False


# A Trigger's filter is needed at its check, for the index and at a reload; 1,024 are all that a node will have.
@lru_cache(maxsize=1024)
def compiled(text: str) -> Expression:
    """The Expression of `text`, made once; raises ExpressionError."""
    return Expression(text)


def evaluate(text: str, attributes: Attributes) -> Outcome:
    """What `text` gives; one that cannot be parsed gives false and the kind `parse`."""
    try:
        expression = Expression(text)
    except ExpressionError as error:
        return Outcome(False, ErrorKind.PARSE, str(error))
    return expression.evaluate(attributes)


def _missing(part: Any) -> Iterator[str]:
    if isinstance(part, Call) and find_function(part.name, count := len(part.arguments)) is None:
        yield f"{part.name} of {count} argument{'' if count == 1 else 's'}"
    if isinstance(part, tuple):
        inner = part
    else:
        inner = tuple(getattr(part, field.name) for field in fields(part)) if is_dataclass(part) else ()
    for each in inner:
        yield from _missing(each)


def _required(node: Node) -> Iterator[tuple[str, str]]:
    match node:
        case Comparison("=", Attribute(name), Literal(str(text))) | Comparison(
            "=", Literal(str(text)), Attribute(name)
        ):
            yield name, text
        case Logic(first, rest) if all(sign == "AND" for sign, _ in rest):
            for operand in (first, *(operand for _, operand in rest)):
                yield from _required(operand)
