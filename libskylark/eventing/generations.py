"""Generations: which Triggers each broker of a node had, so that those which filtered an event can be told later.

A record per event and Trigger that does not want it would cost more with every Trigger. A record of the journal
names its generation instead, and a node keeps what the last 100 of them mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from libskylark.errors import StoreUnavailable
from libskylark.eventing.journal import Accepted
from libskylark.eventing.keys import GENERATIONS
from libskylark.store import Store

_CAP: Final = 100


def generation_operations(generation: str, triggers: Mapping[str, Sequence[str]]) -> list[Any]:
    """The operation of commit.lua that keeps what a generation means: broker -> its Triggers."""
    return ["generation", 3, generation, orjson.dumps(triggers), _CAP]


@dataclass
class Generations:
    """What the generations of several nodes mean. A node that does not answer knows none."""

    _triggers: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)

    def filtered(self, node: str, accepted: Accepted) -> list[str] | None:
        """The Triggers that filtered an event; None where that is not known any more. None filters a hop."""
        if accepted.hop:
            return []
        triggers = self._triggers.get((node, accepted.generation), {}).get(accepted.broker)
        if triggers is None:
            return None
        taken = set(accepted.to)
        return [trigger for trigger in triggers if trigger not in taken]


def read_generations(stores: Mapping[str, Store], nodes: Iterable[str]) -> Generations:
    """Those that some nodes keep."""
    found = Generations()
    for node in nodes:
        try:
            entries: Any = stores[node].run(lambda client: client.xrange(GENERATIONS))
        except StoreUnavailable:
            continue
        for _, fields in entries:
            found._triggers[node, fields[b"generation"].decode()] = json.loads(fields[b"triggers"])
    return found
