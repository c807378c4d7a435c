"""Several functions in one process: one connection to each store, and every bundle of state fetched only once.

app = fuse(preprocess, detect)   # POST /preprocess and POST /detect take their events
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from libskylark.errors import FunctionError
from libskylark.event import Event
from libskylark.fields import Frames
from libskylark.function import Function
from libskylark.key import StateKey
from libskylark.memory import Committed, Conflict, Effects, Fenced, Ledger, MemoryName, Opened
from libskylark.state import READERS, Loaded, States, redis_key

CACHE_BYTES: Final = 32 * 1024 * 1024


class Bundles:
    """Bundles by Redis key, the least recently used dropped beyond `max_bytes`, each dropped after `ttl_s`.

    A bundle's key is written once, so what is kept here is never stale.
    """

    def __init__(self, ttl_s: float, max_bytes: int = CACHE_BYTES, now_s: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._now_s = now_s
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[float, int, Frames]] = OrderedDict()
        self._fetches: dict[str, Future[Frames]] = {}
        self.size_bytes = 0

    def put(self, key: str, frames: Frames) -> None:
        """Keeps a bundle, if it fits at all."""
        size_bytes = sum(len(name) + len(frame) for name, frame in frames.items())
        with self._lock:
            self._drop(key)
            if size_bytes > self._max_bytes:
                return
            self._kept[key] = (self._now_s() + self._ttl_s, size_bytes, frames)
            self.size_bytes += size_bytes
            while self._kept and (self.size_bytes > self._max_bytes or self._oldest_is_over()):
                self._drop(next(iter(self._kept)))

    def get(self, key: str, fetch: Callable[[], Frames]) -> Frames:
        """The bundle that is kept, or else what one call of `fetch` brings to all who ask meanwhile.

        Raises what `fetch` raises, and then keeps nothing.
        """
        with self._lock:
            if key in self._kept and self._kept[key][0] <= self._now_s():
                self._drop(key)
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][2]
            under_way = self._fetches.get(key)
            mine: Future[Frames] = Future()
            if under_way is None:
                self._fetches[key] = mine
        if under_way is not None:
            return under_way.result()
        try:
            frames = fetch()
            self.put(key, frames)
            mine.set_result(frames)
            return frames
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._fetches[key]

    def _oldest_is_over(self) -> bool:
        return next(iter(self._kept.values()))[0] <= self._now_s()

    def _drop(self, key: str) -> None:
        if key in self._kept:
            self.size_bytes -= self._kept.pop(key)[1]


class SharedStates:
    """States whose bundles are fetched whole, once for all functions of the process on node `here`."""

    def __init__(self, states: States, bundles: Bundles, here: str) -> None:
        self._states = states
        self._bundles = bundles
        self._here = here

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        fetched: Loaded | None = None

        def fetch() -> Frames:
            nonlocal fetched
            fetched = self._states.load(key, origin, None, first)
            return fetched.frames

        frames = self._bundles.get(redis_key(key), fetch)
        wanted = {name: frame for name, frame in frames.items() if names is None or name in names}
        others = frames.keys() - wanted.keys()
        if fetched is not None:
            return replace(fetched, frames=wanted, others=frozenset(others))
        # Another function of the process has fetched it, or written it.
        return Loaded(wanted, first or self._here, others=frozenset(others))


class SharedLedger:
    """A ledger that keeps the bundles which its commits write, so that the next function need not fetch them."""

    def __init__(self, ledger: Ledger, bundles: Bundles) -> None:
        self._ledger = ledger
        self._bundles = bundles

    def open(self, name: MemoryName, event: Event) -> Opened:
        return self._ledger.open(name, event)

    def load(self, name: MemoryName, fields: Sequence[str] | None) -> Frames:
        return self._ledger.load(name, fields)

    def commit(self, effects: Effects) -> Committed | Conflict | Fenced:
        outcome = self._ledger.commit(effects)
        if isinstance(outcome, Committed) and not outcome.duplicate and effects.state:
            frames = {name: frame for name, frame in effects.state.items() if name != READERS}
            self._bundles.put(effects.state_key, frames)
        return outcome


def fuse(*functions: Function) -> Flask:
    """One application that takes each function's events under `/NAME`; its own are /health and /ready.

    The functions share the stores and node services of the first. Raises FunctionError without functions, for two
    of one name, or of several nodes.
    """
    names = [function.function for function in functions]
    nodes = {function.settings.node for function in functions}
    if not functions or len(set(names)) < len(names) or len(nodes) > 1:
        found = f"found {', '.join(names) or 'none'} of {', '.join(sorted(nodes)) or 'no node'}"
        raise FunctionError(f"functions to be fused have names of their own and one node; {found}")
    first = functions[0].execution
    bundles = Bundles(first.settings.state_ttl_s)
    states = SharedStates(first.states, bundles, first.settings.node)
    ledger = SharedLedger(first.ledger, bundles)
    for function in functions:
        function.execution.states = states
        function.execution.ledger = ledger
        function.execution.services = first.services
    app = Flask("fused", static_folder=None)
    app.add_url_rule("/health", "health", lambda: {"status": "alive", "functions": names})
    app.add_url_rule("/ready", "ready", functions[0].view_functions["ready"])
    mounts: dict[str, Any] = {f"/{function.function}": _at_root(function) for function in functions}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, mounts)  # type: ignore[method-assign]
    return app


def _at_root(function: Function) -> Callable[[dict[str, Any], Any], Any]:
    """The function as the dispatcher needs it, which takes the whole path off; Flask would answer with a redirect."""
    return lambda environ, start: function.wsgi_app({**environ, "PATH_INFO": environ["PATH_INFO"] or "/"}, start)
