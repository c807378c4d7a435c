"""Named values that are read on first use and written when the handler has returned: `state` and `memory`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence

from libskylark.codec import Value, decode, encode, plain
from libskylark.errors import CodecError

Frames = Mapping[str, bytes]
Load = Callable[[Sequence[str] | None], Frames]
"""Loads fields by name, or all of them for None; a field that is not there is left out."""


def no_fields(names: Sequence[str] | None) -> Frames:
    """The Load of a mapping that starts empty."""
    return {}


def unknown() -> Collection[str] | None:
    """What else is stored, where loading fields does not tell."""
    return None


class Fields(MutableMapping[str, Value]):
    """A mapping of field names to values, over stored frames that `load` brings.

    The first field touched is fetched alone; touching a second one fetches the rest in one go, but for what was
    written or removed meanwhile. Values changed in place (`memory["seen"].append(x)`) count as written, like
    assigned ones. Nothing is stored before `written()` and `removed()` are committed by the caller.
    """

    def __init__(
        self,
        load: Load = no_fields,
        torn: Callable[[str], Exception] = CodecError,
        others: Callable[[], Collection[str] | None] = unknown,
    ) -> None:
        """`torn` makes the error that is raised for a frame which cannot be read; `others` tells after the first
        load which fields are stored beside those that it brought."""
        self._load = load
        self._torn = torn
        self._others = others
        self._frames: dict[str, bytes] = {}
        self._values: dict[str, Value] = {}
        self._assigned: set[str] = set()
        self._removed: set[str] = set()
        self._touched = False
        self._complete = False

    @property
    def touched(self) -> bool:
        """Whether anything was fetched."""
        return self._touched

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            if not self._fetch(name):
                raise KeyError(name)
            self._values[name] = self._decoded(name)
        return self._values[name]

    def __setitem__(self, name: str, value: Value) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"field names are non-empty strings, found {name!r}")
        self._values[name] = value
        self._assigned.add(name)
        self._removed.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._values.pop(name, None)
        self._assigned.discard(name)
        self._removed.add(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._values or self._fetch(name))

    def __iter__(self) -> Iterator[str]:
        self._fetch_all()
        return iter([name for name in {**self._frames, **self._values} if name not in self._removed])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def written(self) -> dict[str, bytes]:
        """Frames of the fields that were assigned, or changed in place."""
        written: dict[str, bytes] = {}
        for name, value in self._values.items():
            if name in self._assigned:
                written[name] = encode(value)
            elif isinstance(value, dict | list) and (frame := encode(value)) != plain(self._frames[name]):
                written[name] = frame
        return written

    def removed(self) -> set[str]:
        return set(self._removed)

    def frames(self) -> dict[str, bytes]:
        """Frames of all fields as they are now, those that were never read included."""
        self._fetch_all()
        kept = {name: frame for name, frame in self._frames.items() if name not in self._removed}
        return {**kept, **self.written()}

    def _fetch(self, name: str) -> bool:
        if name in self._removed:
            return False
        if name not in self._frames and not self._complete:
            if self._touched:
                self._fetch_all()
            else:
                self._touched = True
                self._frames.update(self._load([name]))
        return name in self._frames

    def _fetch_all(self) -> None:
        if self._complete:
            return
        others = self._others() if self._touched else None
        self._touched = self._complete = True
        if others is None:
            # What was read first stays: the handler has seen it.
            self._frames = {**self._load(None), **self._frames}
        elif wanted := sorted(set(others) - self._assigned - self._removed):
            self._frames.update(self._load(wanted))

    def _decoded(self, name: str) -> Value:
        try:
            return decode(self._frames[name])
        except CodecError as error:
            raise self._torn(f"field {name!r}: {error}") from None
