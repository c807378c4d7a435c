"""Every error that Skylark raises, in one tree.

SkylarkError
├── ConfigError
│   ├── SettingError            (ValueError)     an environment variable or constructor argument
│   ├── DocumentError           (ValueError)     a YAML file: every fault with file, line and field
│   └── ExpressionError         (ValueError)     a CESQL expression that cannot be parsed
├── EventError
│   ├── InvalidEvent            (ValueError)     not a CloudEvent, or one with faulty attributes
│   └── BadInput                (ValueError)     a handler refuses the data of a good CloudEvent
├── CodecError                  (ValueError)     a value that cannot be stored, or stored bytes that are torn
├── KeyFormatError              (ValueError)     a state key that is not chain:node:task
├── TopologyError
│   ├── UnknownNode             (LookupError)
│   └── NoRoute                 (LookupError)
├── StoreError
│   ├── StoreUnavailable        (ConnectionError) a node's Redis does not answer
│   ├── StreamFull                               a broker's stream, or its Redis, that has no room for an event
│   ├── StateMissing            (LookupError)    a field that no reachable store holds
│   └── MemoryTorn              (ValueError)     stored memory that is no value any more
├── MemoryConflict                               memory that was written by someone else meanwhile
├── MemoryFenced                                 memory that is on its way to another node, or owned there
├── ElectionError                                no successor can be named now
├── ClusterError                                 the Kubernetes API refuses, or does not answer
├── FunctionError                                a function.py that cannot be served
├── SendError                                    a broker that took no event
│   └── BrokerUnavailable       (ConnectionError) it may take the event later
└── LabError                                     a process of the lab that does not start or stop
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class SkylarkError(Exception):
    """Base of everything that Skylark raises on purpose."""


class ConfigError(SkylarkError):
    """Something that the user configured is not right."""


class SettingError(ConfigError, ValueError):
    """One setting has a value that cannot be used."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"setting {key}: found {value!r}, expected {expected}")
        self.key = key
        self.value = value
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a file, at a place that an editor can jump to (line is 1-based, 0 for the whole file)."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class DocumentError(ConfigError, ValueError):
    """One or more YAML documents are faulty; `faults` holds all of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class ExpressionError(ConfigError, ValueError):
    """A CESQL expression that cannot be parsed; `place` is the first character (from 1) that does not fit."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(f"at character {place}: {message}")
        self.place = place


class EventError(SkylarkError):
    """An event cannot be used."""


class InvalidEvent(EventError, ValueError):
    """The message is no CloudEvent; `faults` maps attribute (or `message`) to what is wrong with it."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {what}" for name, what in faults.items()))
        self.faults = dict(faults)


class BadInput(EventError, ValueError):
    """Raised by a handler for data it cannot work with: answered 400, never retried, effects dropped."""


class CodecError(SkylarkError, ValueError):
    """A value that has no stored form, or stored bytes that are not a value."""


class KeyFormatError(SkylarkError, ValueError):
    """A state key that is not `chain:node:task`."""


class TopologyError(SkylarkError):
    """The graph of nodes and links does not allow what was asked."""


class UnknownNode(TopologyError, LookupError):
    """A node that the constellation does not have."""

    def __init__(self, node: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown node {node!r}; known are {', '.join(sorted(known)) or 'none'}")
        self.node = node


class NoRoute(TopologyError, LookupError):
    """Two nodes that no path of links joins in this epoch."""


class StoreError(SkylarkError):
    """A node's Redis failed us."""


class StoreUnavailable(StoreError, ConnectionError):
    """A node's Redis does not answer, or refuses to work."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Redis at {address} is unavailable: {reason}")
        self.address = address


class StreamFull(StoreError):
    """As many events wait as the stream may hold, or Redis has no memory left."""


class StateMissing(StoreError, LookupError):
    """The event names state that no reachable node holds (expired, or its node is cut off)."""


class MemoryTorn(StoreError, ValueError):
    """Stored memory that cannot be read: the store is at fault, and not the event."""


class MemoryConflict(SkylarkError):
    """Memory changed between read and commit; carries both versions."""

    def __init__(self, memory: str, expected: int, found: int) -> None:
        super().__init__(f"memory {memory} is at version {found}, this run read version {expected}")
        self.expected = expected
        self.found = found


class MemoryFenced(SkylarkError):
    """This node may not write a memory now; says which epoch of ownership was presented and which was found."""

    def __init__(self, memory: str, presented: int | None, phase: str, node: str, epoch: int) -> None:
        found = f"{phase} by {node} since epoch {epoch}" if node else "owned by nobody that this node knows"
        super().__init__(f"memory {memory} is {found}; this run started under epoch {presented}")
        self.presented = presented
        self.found = epoch


class ElectionError(SkylarkError):
    """No successor can be named now."""


class ClusterError(SkylarkError):
    """The Kubernetes API refuses, or does not answer."""


class FunctionError(SkylarkError):
    """A function that cannot be served as it is written."""


class SendError(SkylarkError):
    """A broker did not take an event, or a chain did not end in time."""


class BrokerUnavailable(SendError, ConnectionError):
    """A broker that does not answer, or is too busy: the event may be sent again."""


class LabError(SkylarkError):
    """The lab could not start, watch or stop one of its processes."""
