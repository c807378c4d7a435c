"""What the broker makes of a load: 1 KiB events through ingress, stream, filter and dispatch to one subscriber."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil

from libskylark.bench.load import TYPE, Load, Passage
from libskylark.bench.traffic import traffic
from libskylark.config import NodeSettings, from_environment
from libskylark.lab.process import ProcessSpec, Role
from libskylark.lab.redis_server import find_redis_server, redis_command
from libskylark.lab.supervisor import Supervisor

CONCURRENCIES: Final = (1, 8, 32, 64)
TRIGGERS: Final = (1, 100, 1_000)
RATE_PER_S: Final = 200.0
ROUNDS: Final = 3

Run = Mapping[str, Any]

_HOST: Final = "127.0.0.1"
_APP: Final = "libskylark.eventing.app:app"
_START_S: Final = 30.0
_WARM_UP_S: Final = 1.0
_TRIGGERS_CONCURRENCY: Final = 32  # while it is measured what more Triggers cost
_AT_ONCE, _RATE, _TRIGGERS = "concurrency", "rate", "triggers"  # kinds of runs, by what was varied
_MEASURED: Final = ("events_per_s", "p50_ms", "p99_ms", "cpu_us_per_event")
_PAIR: Final = 2  # Triggers of the runs: one that takes the events, and one that does not
_TRIGGER: Final = """\
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}}}
spec:
  broker: default
  filter: {{attributes: {{type: {type}}}}}
  subscriber: {{uri: '{subscriber}'}}
"""


def measure(
    seconds: float = 5.0, progress: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures, every single run): `{"runs": [...], "paced": {"rate", "p50_ms", "p99_ms"}, "rss_mib", "by_triggers":
    {"1": us, ...}, "lost"}`.

    All are medians of three runs, each of a third of `seconds`; those with so many at once and the paced ones take
    turns.
    A broker as the lab runs it, with a Redis of its own whose append-only file is flushed every second; subscriber and
    senders share one further process. Of runs: concurrency, the events under way at all
    times (a sender goes on when its event was accepted and delivered); events_per_s; p50_ms and p99_ms, from the
    request to the subscriber; cpu_us_per_event, processor time of the broker alone. paced: the same times with a rate
    of events a second. rss_mib: the most that the broker's process occupied after a run. by_triggers: processor time
    per event with so many Triggers, one of which takes the events. lost: events that were accepted and not delivered.
    Raises LabError where a process does not start, or the broker refuses an event.
    """
    raw = list[dict[str, Any]]()
    with _Site() as site:

        def run(what: str, kind: dict[str, Any], load: Load) -> None:
            progress(what)
            passage, cpu_us = site.put(load)
            raw.append({**kind, **_figures(passage), "cpu_us_per_event": round(cpu_us, 1), "rss_mib": site.rss_mib()})

        site.start(_PAIR)
        for number in range(1, ROUNDS + 1):
            told = f"round {number} of {ROUNDS}"
            for concurrency in CONCURRENCIES:
                run(f"{concurrency} at once, {told}", {_AT_ONCE: concurrency}, Load(seconds / ROUNDS, concurrency))
            paced = Load(2 * seconds / ROUNDS, rate_per_s=RATE_PER_S)
            run(f"{RATE_PER_S:g} events a second, {told}", {_RATE: RATE_PER_S}, paced)
        for count in TRIGGERS:
            site.start(count)
            for _ in range(ROUNDS):
                load = Load(seconds / ROUNDS, _TRIGGERS_CONCURRENCY)
                run(f"{count:,} Triggers", {_TRIGGERS: count}, load)
        return _summary(raw, site.lost), raw


def _summary(raw: Sequence[Run], lost: int) -> dict[str, Any]:
    at_once, triggers = _by(raw, _AT_ONCE), _by(raw, _TRIGGERS)
    (paced,) = _by(raw, _RATE).values()
    return {
        "runs": [
            {_AT_ONCE: concurrency, **{name: _median(runs, name) for name in _MEASURED}}
            for concurrency, runs in at_once.items()
        ],
        "paced": {"rate": RATE_PER_S, **{name: _median(paced, name) for name in ("p50_ms", "p99_ms")}},
        "rss_mib": round(max(run["rss_mib"] for runs in at_once.values() for run in runs), 1),
        "by_triggers": {str(count): _median(runs, "cpu_us_per_event") for count, runs in triggers.items()},
        "lost": lost,
    }


def ranges(raw: Sequence[Run]) -> list[dict[str, Any]]:
    """Of so many at once: from the least to the most of the runs, of each figure; from what `measure` gives."""
    return [
        {
            _AT_ONCE: concurrency,
            **{name: [min(run[name] for run in runs), max(run[name] for run in runs)] for name in _MEASURED},
        }
        for concurrency, runs in _by(raw, _AT_ONCE).items()
    ]


def _by(raw: Sequence[Run], kind: str) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = {}
    for run in raw:
        if kind in run:
            found.setdefault(run[kind], []).append(run)
    return found


def _median(runs: Sequence[Run], name: str) -> float:
    values: list[float] = [run[name] for run in runs]
    return round(statistics.median(values), 3)


class _Site:
    """A Redis, a broker with some Triggers, and the process with its senders and its subscriber."""

    def __init__(self) -> None:
        self.lost = 0
        self._stack = ExitStack()
        self._broker: ProcessSpec | None = None

    def __enter__(self) -> _Site:
        with ExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skylark-bench-")))
            self._supervisor = stack.enter_context(Supervisor(self._directory, preload=()))
            self._traffic = stack.enter_context(traffic())
            self._redis_port = _free_port()
            fsync = from_environment(NodeSettings).redis_fsync
            command = redis_command(find_redis_server(), _HOST, self._redis_port, self._directory / "redis", aof=fsync)
            self._run(self._spec("redis", "redis", self._redis_port, argv=tuple(command)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, triggers: int) -> None:
        """A broker in place of the one before; the first of its Triggers takes the events, the others do not."""
        if self._broker is not None:
            self._supervisor.stop_names([self._broker.name])
        name, port = f"broker-{triggers}", _free_port()
        objects = self._directory / f"{name}.yaml"
        types = [TYPE, *(f"{TYPE}.{number}" for number in range(1, triggers))]
        written = [
            _TRIGGER.format(name=f"t{number}", type=event_type, subscriber=self._traffic.subscriber)
            for number, event_type in enumerate(types)
        ]
        objects.write_text("".join(written), encoding="utf-8")
        given = {name: value for name, value in os.environ.items() if not name.startswith("SKYLARK_")}
        environment = {
            **given,
            "LOCAL_NODE_HOST": _HOST,
            "SKYLARK_REDIS_PORT": str(self._redis_port),
            "SKYLARK_BROKER_PORT": str(port),
            "SKYLARK_OBJECTS": str(objects),
        }
        self._broker = self._spec(name, "broker", port, environment=environment, app=_APP, worker_class="asgi")
        self._run(self._broker)
        self.put(Load(_WARM_UP_S, _TRIGGERS_CONCURRENCY))

    def put(self, load: Load) -> tuple[Passage, float]:
        """Puts a load on the broker; what became of it, and the broker's processor time in us per event."""
        assert self._broker is not None, "start comes first"
        before_s = self._cpu_s()
        passage = self._traffic.run(load, self._broker.port)
        self.lost += passage.accepted - passage.delivered
        return passage, (self._cpu_s() - before_s) / passage.delivered * 1e6

    def rss_mib(self) -> float:
        return self._process().memory_info().rss / 2**20

    def _cpu_s(self) -> float:
        times = self._process().cpu_times()
        return times.user + times.system

    def _process(self) -> psutil.Process:
        assert self._broker is not None, "start comes first"
        return psutil.Process(self._supervisor.pid(self._broker.name))

    def _spec(self, name: str, role: Role, port: int, **options: Any) -> ProcessSpec:
        log = self._directory / f"{name}.log"
        return ProcessSpec(name, "bench", role, _HOST, port, self._directory, log, **options)

    def _run(self, spec: ProcessSpec) -> None:
        self._supervisor.start([spec])
        self._supervisor.wait_ready([spec], _START_S)


def _figures(passage: Passage) -> dict[str, float]:
    return {"events_per_s": round(passage.events_per_s, 1), **_times(passage)}


def _times(passage: Passage) -> dict[str, float]:
    return {"p50_ms": round(passage.percentile_ms(0.5), 3), "p99_ms": round(passage.percentile_ms(0.99), 3)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
