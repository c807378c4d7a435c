"""Which Triggers there are for the dispatcher: where the events of each go, and which ones are there no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Subscription:
    """A Trigger as the dispatcher sees it: where its events go, and how hard that is tried."""

    trigger: str  # namespace/name
    namespace: str
    target: Target
    policy: RetryPolicy
    sink: Target | None = None


class Subscriptions:
    """Those in force, by Trigger, and the names of Triggers that are known to be gone."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._in_force = {each.trigger: each for each in subscriptions}
        self._gone: set[str] = set()

    def get(self, trigger: str) -> Subscription | None:
        return self._in_force.get(trigger)

    def may_come(self, trigger: str) -> bool:
        """Whether a Trigger is not there yet, as far as one can know: another process may have read it earlier."""
        return trigger not in self._in_force and trigger not in self._gone

    def give_up(self, trigger: str) -> None:
        """It was waited for, and did not come."""
        self._gone.add(trigger)

    def exchange(self, subscriptions: Iterable[Subscription]) -> set[str]:
        """Other ones are in force from now on; gives the Triggers that this changes, adds or takes away."""
        former, self._in_force = self._in_force, {each.trigger: each for each in subscriptions}
        self._gone = (self._gone | former.keys()) - self._in_force.keys()
        return {trigger for trigger in former.keys() | self._in_force if former.get(trigger) != self.get(trigger)}
