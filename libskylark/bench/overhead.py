"""What libskylark adds to a bare Flask function, per call and in memory: in process, over HTTP, and resident.

In process: all kinds in one process, called as a WSGI server calls them. Over HTTP: a gunicorn with one worker for
each kind, called over a connection that stands. The kinds take turns, block by block.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from libskylark.bench.called import Called
from libskylark.bench.kinds import KINDS, Kind
from libskylark.bench.statistics import median

SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Setup:
    """Blocks of each kind, in process and over HTTP, and the calls of one block."""

    runs: int = 12
    calls: int = 300


DEFAULT: Final = Setup()
QUICK: Final = Setup(runs=2, calls=50)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of calls: the median call, and the processor time of the one that answers, per call."""

    kind: str
    run: int
    call_us: float
    cpu_us: float
    http_us: float
    http_cpu_us: float


def measure(
    setup: Setup = DEFAULT,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda _: None,
    kinds: Sequence[Kind] = KINDS,
) -> tuple[Any, Any]:
    """`{"runs", "calls", "rows": [...]}`, and every block.

    Of each kind: call_us of a call in process, http_us over HTTP, medians over the blocks of the median call, with 95 %
    intervals; cpu_us and http_cpu_us, the processor time of either (that of Redis is not in it); rss_mib, what the
    worker that has answered all of it occupies; and what each has more than the first kind (added_us, ...; None for
    that one). Raises LabError where a process does not start, or a call is not answered with 200.
    """
    rng, blocks = random.Random(seed), list[Block]()
    with Called(kinds) as called:
        for kind in kinds:
            block(called, kind, 0, max(20, setup.calls // 10))  # what is done for the first time takes longer
        for run in range(1, setup.runs + 1):
            for kind in rng.sample(kinds, len(kinds)):
                progress(f"run {run} of {setup.runs}: {kind.name}")
                blocks.append(block(called, kind, run, setup.calls))
        rss_mib = {kind.name: called.rss_mib(kind) for kind in kinds}
    first = kinds[0].name
    bare = _medians([block for block in blocks if block.kind == first])
    rows = []
    for kind in kinds:
        of_kind = [block for block in blocks if block.kind == kind.name]
        more = None if kind.name == first else bare
        rows.append({**_row(of_kind, more), **_memory(rss_mib[kind.name], None if more is None else rss_mib[first])})
    return {**asdict(setup), "rows": rows}, [asdict(block) for block in blocks]


def block(called: Called, kind: Kind, run: int, calls: int) -> Block:
    """So many calls in process, and then as many over HTTP."""
    inside, http = called.in_process(kind, calls), called.over_http(kind, calls)
    return Block(kind.name, run, inside.wall_us, inside.cpu_us, http.wall_us, http.cpu_us)


_TIMES: Final = {
    "call_us": "added_us",
    "cpu_us": "added_cpu_us",
    "http_us": "added_http_us",
    "http_cpu_us": "added_http_cpu_us",
}


def _medians(blocks: Sequence[Block]) -> dict[str, float]:
    return {name: median(getattr(block, name) for block in blocks).value for name in _TIMES}


def _row(blocks: Sequence[Block], bare: Mapping[str, float] | None) -> dict[str, Any]:
    found = _medians(blocks)
    return {
        "kind": blocks[0].kind,
        **{name: round(us, 1) for name, us in found.items()},
        **{f"ci_{name}": median(getattr(b, name) for b in blocks).interval(1) for name in ("call_us", "http_us")},
        **{added: None if bare is None else round(found[name] - bare[name], 1) + 0.0 for name, added in _TIMES.items()},
    }


def _memory(rss_mib: float, bare_mib: float | None) -> dict[str, Any]:
    return {"rss_mib": round(rss_mib, 1), "added_mib": None if bare_mib is None else round(rss_mib - bare_mib, 1)}
