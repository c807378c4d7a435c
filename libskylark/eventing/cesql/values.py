"""CESQL's three types, the casts between them, its kinds of errors, and arithmetic in 32 bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Any, Final, TypeAlias

Value: TypeAlias = str | int | bool
Attributes: TypeAlias = Mapping[str, Value]
Cast: TypeAlias = Callable[[Value], Any]

MIN_INTEGER: Final = -(2**31)
MAX_INTEGER: Final = 2**31 - 1

_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]{1,10})")
_SHOWN_CHARACTERS: Final = 40


class Type(Enum):
    STRING = "String"
    INTEGER = "Integer"
    BOOLEAN = "Boolean"


ZERO: Final[dict[Type, Value]] = {Type.STRING: "", Type.INTEGER: 0, Type.BOOLEAN: False}


class ErrorKind(StrEnum):
    """The specification's error types, by the names that its conformance suite has for them."""

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_ATTRIBUTE = "missingAttribute"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    GENERIC = "generic"


class Failure(Exception):
    """An error on the way through an expression; `value` is a function's result beside it, where it has one."""

    def __init__(self, kind: ErrorKind, message: str, value: Value | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.value = value


def type_of(value: Value) -> Type:
    return _TYPES[type(value)]


def to_string(value: Value) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    return str(value)


def to_integer(value: Value) -> int:
    """Raises Failure for text that is no decimal integer of 32 bits."""
    if type(value) is str:
        integer = parse_integer(value)
        if integer is None:
            raise Failure(ErrorKind.CAST, f"{shown(value)} is no Integer")
        return integer
    return int(value)


def to_boolean(value: Value) -> bool:
    """Raises Failure for text other than true and false (in any case)."""
    if type(value) is str:
        lower = value.lower()
        if lower not in ("true", "false"):
            raise Failure(ErrorKind.CAST, f"{shown(value)} is no Boolean")
        return lower == "true"
    return bool(value)


CASTS: Final[dict[Type, Cast]] = {Type.STRING: to_string, Type.INTEGER: to_integer, Type.BOOLEAN: to_boolean}
_TYPES: Final = {str: Type.STRING, int: Type.INTEGER, bool: Type.BOOLEAN}


def can_cast(value: Value, target: Type) -> bool:
    try:
        CASTS[target](value)
    except Failure:
        return False
    return True


def parse_integer(text: str) -> int | None:
    """The integer that `text` is, with an optional sign; None for other text and beyond 32 bits."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    integer = int(f"{match[1]}{match[2]}")
    return integer if MIN_INTEGER <= integer <= MAX_INTEGER else None


def wrap(integer: int) -> int:
    """The low 32 bits as a signed number.

    Version 1.0 of the specification gives no result for a sum, difference, product, quotient or minus value beyond 32
    bits, and no error either: of overflow, it speaks of literals, casts and ABS only. The SDKs for Go, which Knative
    filters with, and for Java wrap around without an error; so does this.
    """
    return (integer - MIN_INTEGER) % 2**32 + MIN_INTEGER


def divide(left: int, right: int) -> int:
    """The quotient, rounded towards zero; raises Failure for a divisor of zero."""
    if right == 0:
        raise Failure(ErrorKind.MATH, f"{left} / 0 is a division by zero")
    quotient = abs(left) // abs(right)
    return wrap(quotient if (left < 0) == (right < 0) else -quotient)


def remainder(left: int, right: int) -> int:
    """What `divide` leaves, with the sign of `left`; raises Failure for a divisor of zero."""
    if right == 0:
        raise Failure(ErrorKind.MATH, f"{left} % 0 is a division by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def shown(text: str) -> str:
    """`text` in quotes, cut where it is long, for messages."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")
