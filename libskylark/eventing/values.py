"""Texts of Knative's objects that have a form of their own: durations, names, keys, attributes, expressions."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from libskylark.eventing.cesql import compiled

_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAMESPACE: Final = re.compile(_LABEL)
_KEY: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")  # of a label or annotation, without prefix
_NUMBER: Final = r"(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)"
_DATE, _TIME = (
    "".join(rf"(?:(?P<{unit}>{_NUMBER}){unit[0].upper()})?" for unit in units)
    for units in (("years", "months", "weeks", "days"), ("hours", "minutes", "seconds"))
)
_ISO_DURATION: Final = re.compile(rf"(?P<sign>[+-]?)P{_DATE}(?:T{_TIME})?")
# A year is the Gregorian calendar's mean, a month the twelfth of it.
_SECONDS_PER: Final = {
    "years": 31_556_952,
    "months": 2_629_746,
    "weeks": 604_800,
    "days": 86_400,
    "hours": 3600,
    "minutes": 60,
    "seconds": 1,
}
_LONGEST_YEARS: Final = 3276


def parse_iso_duration_s(text: str) -> float:
    """Seconds of an ISO 8601 duration such as PT0.2S or P1DT12H, below 0 with a minus before it; raises ValueError.

    Takes what Knative's parser (rickb777/date) is documented to take: years to seconds in this order, a sign before
    the P, a fraction at any number, by point or comma, P0, and 3,276 years at most. What that parser lets through by
    accident, such as signs within and text behind a first decimal, is refused.
    """
    match = _ISO_DURATION.fullmatch(text)
    numbers = {unit: number for unit in _SECONDS_PER if match and (number := match[unit])}
    if text == "P0":
        return 0.0
    if match is None or not numbers:
        raise ValueError("expected an ISO 8601 duration such as PT0.2S, PT1M or P1DT12H")
    duration_s = sum(float(number.replace(",", ".")) * _SECONDS_PER[unit] for unit, number in numbers.items())
    if duration_s > _LONGEST_YEARS * _SECONDS_PER["years"]:
        raise ValueError(f"expected an ISO 8601 duration of {_LONGEST_YEARS} years at most")
    return -duration_s if match["sign"] == "-" else duration_s


def with_one_decimal(duration: str) -> str:
    """What Knative counts of a duration: the first decimal of each number."""
    return re.sub(r"([.,][0-9])[0-9]+", r"\1", duration)


def _is_duration(text: str) -> str:
    parse_iso_duration_s(text)
    return text


def _is_not_negative(text: str) -> str:
    if parse_iso_duration_s(text) < 0:
        raise ValueError("expected a duration of zero or more")
    return text


def check_positive_duration(text: str) -> str:
    """The text again; raises ValueError for what is no duration, and for what is none to Knative."""
    if parse_iso_duration_s(text) <= 0:
        raise ValueError("expected a duration above zero")
    if parse_iso_duration_s(with_one_decimal(text)) <= 0:
        raise ValueError("expected a duration above zero, of which Knative counts one decimal")
    return text


def _is_attribute(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+", name):
        raise ValueError(f"found {name!r}: attribute names are lower-case letters and digits")
    return name


def _is_filter_attribute(name: str) -> str:
    if _is_attribute(name)[0].isdecimal():
        raise ValueError(f"found {name!r}: in a filter, the name of an attribute begins with a letter")
    return name


def _is_expression(text: str) -> str:
    if text:  # an empty one filters nothing
        compiled(text)  # raises a ValueError that says where it cannot be parsed
    return text


def _is_given(text: str) -> str:
    if not text:
        raise ValueError("is required")
    return text


def _is_name(name: str) -> str:
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("expected a DNS-1123 name: lower-case letters, digits, '-' and '.'")
    return name


def _is_namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise ValueError("expected a DNS-1123 label: lower-case letters, digits and '-', 63 at most")
    return name


def _is_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if not _KEY.fullmatch(name) or (slash and not (_NAME.fullmatch(prefix) and len(prefix) <= 253)):
        raise ValueError(f"found {key!r}: a key is a name of 63 characters at most, after a DNS name and '/' or alone")
    return key


def _is_label(text: str) -> str:
    if text and not _KEY.fullmatch(text):
        raise ValueError("expected letters, digits, '-', '_' and '.', 63 at most, with a letter or digit at both ends")
    return text


# A backoff may be nothing, and even less, which is nothing too; PT0S turns Retry-After off.
Duration = Annotated[str, AfterValidator(_is_duration)]
NotNegativeDuration = Annotated[str, AfterValidator(_is_not_negative)]
PositiveDuration = Annotated[str, AfterValidator(check_positive_duration)]
AttributeName = Annotated[str, AfterValidator(_is_attribute)]
ObjectName = Annotated[str, AfterValidator(_is_name)]
Namespace = Annotated[str, AfterValidator(_is_namespace)]
Key = Annotated[str, AfterValidator(_is_key)]
Label = Annotated[str, AfterValidator(_is_label)]
Given = Annotated[str, AfterValidator(_is_given)]
Expression = Annotated[str, AfterValidator(_is_expression)]
NonEmpty = Annotated[str, Field(min_length=1)]
# An empty value in Trigger's `filter.attributes` means "any value", as it always has in Knative.
FilterAttributeName = Annotated[str, AfterValidator(_is_filter_attribute)]
Attributes = dict[FilterAttributeName, str]
FilterAttributes = dict[FilterAttributeName, NonEmpty]
