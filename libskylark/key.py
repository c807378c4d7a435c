"""StateKey: the name of stored state, which also says where the state is."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from libskylark.errors import KeyFormatError

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class StateKey:
    """`chain:node:task`: the chain's id, the node that holds the state, the run that wrote it.

    Raises KeyFormatError where a part is empty, longer than 128 characters, or has other characters than
    letters, digits, dot, hyphen and underscore.
    """

    chain: str
    node: str
    task: str

    def __post_init__(self) -> None:
        for name in ("chain", "node", "task"):
            value = getattr(self, name)
            if not _PART.fullmatch(value):
                raise KeyFormatError(f"state key: {name} is {value!r}, expected letters, digits and . _ -")

    def __str__(self) -> str:
        return f"{self.chain}:{self.node}:{self.task}"

    @classmethod
    def of_chain(cls, chain: str, node: str, task: str) -> StateKey:
        """A key for any chain id: one with other characters (users choose it) stands in as a derived UUID."""
        return cls(chain if _PART.fullmatch(chain) else str(uuid.uuid5(uuid.NAMESPACE_URL, chain)), node, task)

    @classmethod
    def parse(cls, text: str) -> StateKey:
        parts = text.split(":")
        if len(parts) != 3:
            raise KeyFormatError(f"state key {text!r} has {len(parts)} parts, expected chain:node:task")
        return cls(*parts)
