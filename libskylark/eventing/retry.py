"""How often, how long and after which pause a delivery is tried: a Delivery with what it leaves out filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libskylark.eventing.objects import Delivery
from libskylark.eventing.values import parse_iso_duration_s

_LONGEST_S: Final = 3600.0  # keeps 2^n in bounds


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Knative's where no `delivery` is given: 10 retries after 0.2, 0.4, 0.8 s and so on, 30 s for an answer."""

    retries: int = 10
    exponential: bool = True
    backoff_s: float = 0.2
    timeout_s: float = 30.0
    retry_after_max_s: float = 300.0
    structured: bool = False

    @classmethod
    def of(cls, delivery: Delivery | None) -> RetryPolicy:
        """The policy of a Delivery: without `retry` it has none, as in Knative; else it leaves the default as it is."""
        if delivery is None:
            return cls()
        return cls(
            retries=delivery.retry or 0,
            exponential=delivery.backoff_policy != "linear",
            backoff_s=_seconds(delivery.backoff_delay, 0.2),
            timeout_s=_seconds(delivery.timeout, 30.0),
            retry_after_max_s=_seconds(delivery.retry_after_max, 300.0),
            structured=delivery.format == "json",
        )

    def delay_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """The pause after so many failed attempts (1 or more); at least what the subscriber asked for."""
        factor = 2.0 ** min(failures - 1, 32) if self.exponential else float(failures)
        asked_s = min(retry_after_s or 0.0, self.retry_after_max_s)
        return max(min(self.backoff_s * factor, _LONGEST_S), asked_s)


def _seconds(duration: str | None, default_s: float) -> float:
    return default_s if duration is None else parse_iso_duration_s(duration)
