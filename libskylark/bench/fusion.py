"""Time to read and store the state of several functions: one by one, and as one bundle, near and over a link.

Single: so many runs of functions/single one after the other, each with a read and a write of its own. Bundled: one run
of functions/bundled, whose state is one Redis hash with a field for each of them. Both move the same bytes, over
connections that stand, and a write has ended when the node that it is for has answered: over the link it is the commit
on this node and then the push that the node's mover does, in this process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Final, Literal

from libskylark.bench.nodes import HERE, THERE, TwoNodes, two_nodes
from libskylark.bench.placed import load_function, placed
from libskylark.bench.statistics import Estimate, median, median_ratio
from libskylark.bench.storing import KEY_HEADER
from libskylark.clock import SystemClock
from libskylark.codec import plain
from libskylark.errors import LabError
from libskylark.event import Event
from libskylark.fields import Frames
from libskylark.jobs import JOBS, Push, decode
from libskylark.key import StateKey
from libskylark.lab.links import Figures
from libskylark.project import Project
from libskylark.state import RedisStates
from libskylark.store import RedisClient
from libskylark.timing import HEADER as TIMINGS
from libskylark.timing import read_timings
from libskylark.transfer import Transfers

SEED: Final = 7

_KIB_PER_MB: Final = 1000  # as the original's scripts had it: its MB are 1,024,000 bytes
_WRITER, _SINGLE, _BUNDLED = "write-data", "single", "bundled"

#: The link between satellite and cloud, as the original describes it.
SAT_CLOUD: Final = Figures(latency_ms=60.0, jitter_ms=30.0, bandwidth_mbps=90.0)

Place = Literal["local", "remote"]
_NODES: Final[dict[Place, str]] = {"local": HERE, "remote": THERE}


@dataclass(frozen=True, slots=True)
class Setup:
    """Cells to measure, how often, and the link of the remote ones.

    Local ones take milliseconds, and vary with whatever else the machine does: `near` times as often as the others.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    sizes_mb: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
    runs: int = 6
    near: int = 4
    link: Figures = SAT_CLOUD


DEFAULT: Final = Setup()
QUICK: Final = replace(DEFAULT, depths=(1, 5), sizes_mb=(0.5, 1.0), runs=2)


@dataclass(frozen=True, slots=True)
class Cell:
    """State of `depth` functions, `size_mb` each, that lies in the place and is stored there again."""

    place: Place
    depth: int
    size_mb: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What reading and writing took in one trial, all requests of it together."""

    read_ms: float
    write_ms: float

    @property
    def storage_ms(self) -> float:
        return self.read_ms + self.write_ms


@dataclass(frozen=True, slots=True)
class Trial:
    cell: Cell
    run: int
    single: Taken
    bundled: Taken


def measure(
    project: Project, setup: Setup = DEFAULT, seed: int = SEED, progress: Callable[[str], None] = lambda _: None
) -> tuple[Any, Any]:
    """`{"link", "runs", "bytes_per_mb", "rows": [...]}`, and every trial of it.

    Of each cell: place, depth and size_mb; runs, its trials; single_ms and bundled_ms, medians of the storage time
    (reading and writing), with 95 % intervals ci_single_ms and ci_bundled_ms, and the medians of their parts
    (single_read_ms, ...); saving_percent, what bundling saves of the storage time (below 0: costs), with its interval.
    In each run the cells come in another order, and the two ways in each trial. The state is noise, which no
    compression makes smaller; each trial has its own, and what was stored is compared with it.
    Raises LabError where the project lacks the three functions, a server or the link does not start, or what was
    stored is not what was read.
    """
    rng, trials = random.Random(seed), list[Trial]()
    cells = [Cell(place, depth, size) for place in _NODES for depth in setup.depths for size in setup.sizes_mb]
    most_bytes = round(max(setup.depths) * max(setup.sizes_mb) * _KIB_PER_MB * 1024)
    order = [cell for cell in cells for _ in range(setup.near if cell.place == "local" else 1)]
    with two_nodes(setup.link, most_bytes, seed) as nodes:
        bench = Bench(nodes, project, setup.link)
        for place in _NODES:  # what is done for the first time takes longer
            bench.trial(Cell(place, 1, min(setup.sizes_mb)), 0, rng)
        for run in range(1, setup.runs + 1):
            for done, cell in enumerate(rng.sample(order, len(order))):
                progress(f"run {run} of {setup.runs}, trial {done + 1} of {len(order)}")
                trials.append(bench.trial(cell, run, rng))
    rows = [row(cell, [trial for trial in trials if trial.cell == cell]) for cell in cells]
    figures = {"link": asdict(setup.link), "runs": setup.runs, "bytes_per_mb": _KIB_PER_MB * 1024, "rows": rows}
    return figures, [asdict(trial) for trial in trials]


def row(cell: Cell, trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures of one cell."""
    taken = {"single": [trial.single for trial in trials], "bundled": [trial.bundled for trial in trials]}
    storage_ms = {way: [trial.storage_ms for trial in of_way] for way, of_way in taken.items()}
    medians = {way: median(values) for way, values in storage_ms.items()}
    ratio = median_ratio(storage_ms["bundled"], storage_ms["single"])
    return {
        **asdict(cell),
        "runs": len(trials),
        **{f"{way}_ms": round(estimate.value, 3) for way, estimate in medians.items()},
        **{f"ci_{way}_ms": estimate.interval() for way, estimate in medians.items()},
        **{f"{way}_read_ms": round(median(t.read_ms for t in of_way).value, 3) for way, of_way in taken.items()},
        **{f"{way}_write_ms": round(median(t.write_ms for t in of_way).value, 3) for way, of_way in taken.items()},
        "saving_percent": round(_saved(ratio.value), 1),
        "ci_saving_percent": _saved_interval(ratio),
    }


def _saved(ratio: float) -> float:
    return (1 - ratio) * 100


def _saved_interval(ratio: Estimate) -> list[float]:
    return [round(_saved(ratio.high), 1), round(_saved(ratio.low), 1)]


class Bench:
    """The project's three functions on the node `here`, the writer on the other one too; trials one after the other."""

    def __init__(self, nodes: TwoNodes, project: Project, link: Figures) -> None:
        self._nodes = nodes
        self._apps = {
            (name, node): placed(load_function(project, name), stores, link)
            for name, node, stores in (
                (_WRITER, HERE, nodes.here),
                (_WRITER, THERE, nodes.there),
                (_SINGLE, HERE, nodes.here),
                (_BUNDLED, HERE, nodes.here),
            )
        }
        self._transfers = Transfers(nodes.here, SystemClock(), _no_events)

    def trial(self, cell: Cell, run: int, rng: random.Random) -> Trial:
        """Both ways on state of their own, in an order that is drawn; leaves nothing behind."""
        taken = dict[str, Taken]()
        for way in rng.sample([_SINGLE, _BUNDLED], 2):
            taken[way] = self._take(way, cell)
            self._nodes.flush()
        return Trial(cell, run, taken[_SINGLE], taken[_BUNDLED])

    def _take(self, way: str, cell: Cell) -> Taken:
        size = round(cell.size_mb * _KIB_PER_MB)
        if way == _SINGLE:
            keys = [self._store(f"/single?size={size}", cell.place) for _ in range(cell.depth)]
        else:
            keys = [self._store(f"/bundled?size={size}&scount={cell.depth}", cell.place)]
        parts = [self._get_and_set(way, key, cell.place) for key in keys]
        return Taken(sum(part.read_ms for part in parts), sum(part.write_ms for part in parts))

    def _store(self, request: str, place: Place) -> str:
        """Stores state on the node of the place, by its own function; the key."""
        node = _NODES[place]
        answer = self._apps[_WRITER, node].test_client().get(f"{request}&destination={node}")
        if answer.status_code != 200:
            raise LabError(f"{_WRITER} answered {answer.status_code}: {answer.text}")
        return answer.text

    def _get_and_set(self, way: str, key: str, place: Place) -> Taken:
        node = _NODES[place]
        query = {"key": key, "destination": node}
        answer = self._apps[way, HERE].test_client().get("/get-and-set", query_string=query)
        if answer.status_code != 200:
            raise LabError(f"{way} answered {answer.status_code}: {answer.text}")
        timings = read_timings(answer.headers[TIMINGS])
        read_ms, commit_ms = (sum(t.ms for t in timings if t.what == what) for what in ("state", "commit"))
        push_ms = self._push() if node != HERE else 0.0
        if self._stored(key, place) != self._stored(answer.headers[KEY_HEADER], place):
            raise LabError(f"{way} stored on {node} what is not the state that it read there")
        return Taken(read_ms, commit_ms + push_ms)

    def _push(self) -> float:
        """Does what the commit has queued for the node's mover; the time that it takes, in ms."""

        def take(client: RedisClient) -> Any:
            pipeline = client.pipeline()
            pipeline.xrange(JOBS)
            pipeline.delete(JOBS)
            return pipeline.execute()[0]

        jobs = [decode(fields[b"job"]) for _, fields in self._nodes.here.local.run(take)]
        (push,) = [job for job in jobs if isinstance(job, Push)]
        started = perf_counter()
        self._transfers.perform(push, queued_ms=0)
        return (perf_counter() - started) * 1000

    def _stored(self, key: str, place: Place) -> Frames:
        """The frames under a key, by the place's own store and not over the link."""
        stores = self._nodes.here if place == "local" else self._nodes.there
        loaded = RedisStates(stores).load(StateKey.parse(key), None, None)
        return {name: plain(frame) for name, frame in loaded.frames.items()}


def _no_events(event: Event) -> None:
    raise AssertionError(f"no memory is handed over here, found {event}")
