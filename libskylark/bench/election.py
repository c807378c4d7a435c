"""How fast elections are: an epoch's table recomputed, an answer in process, an answer over HTTP, the memory."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import requests
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from libskylark.clock import SystemClock, Ticks
from libskylark.config import NodeSettings, from_environment
from libskylark.election import ElectionTable, EpochView
from libskylark.errors import ElectionError
from libskylark.nodeservices import NodeServices
from libskylark.services.elections import Elect
from libskylark.topology import Link, Node, Topology

SIZES: Final = (10, 100, 1_000, 10_000)
#: Milliseconds of one query of the original's algorithm as native code, measured for the issue that asked for this.
ORIGINAL_MS: Final = {10: 0.003, 100: 0.04, 1_000: 0.6, 10_000: 5.8}

SEED: Final = 7
ROUNDS: Final = 3
_HERE: Final = "sat-00000"
_TICK_S: Final = 3600.0  # no epoch should end while it is measured
_STATE_BYTES: Final = (1_000, 30_000, 300_000, 3_000_000)
_TABLES: Final = 5
_ANSWERS: Final = 10_000
_BATCH: Final = 500  # answers timed together: the clock is read every 500th time
_HTTP_ANSWERS: Final = 100
_HTTP_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """All that was timed of a constellation of `nodes` in one round."""

    round: int
    nodes: int
    recompute_ms: list[float]
    answer_us: list[float]
    http_ms: list[float]
    peak_mib: float


def measure(
    sizes: Sequence[int] = SIZES, seed: int = SEED, progress: Callable[[int], None] = lambda _: None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures, all that was timed): `{"sizes": {"10": {"recompute_ms", "answer_us", "http_ms", "peak_mib"}, ...}}`.

    Medians over all rounds, in each of which every size is measured once, on another constellation.

    recompute_ms: all that a tick computes from the topologies of this epoch and the next (with a third of the links
    narrower than asked for, so that two trees are needed). answer_us: what `/storage-node` calls. http_ms:
    `/storage-node` itself, of a gunicorn process. peak_mib: the most that Python and numpy take while an epoch's
    document becomes a table (tracemalloc). `progress` is told each size before it is measured.
    Raises ElectionError where that process does not answer.
    """
    samples = []
    for number in range(1, ROUNDS + 1):
        for size in sizes:
            progress(size)
            samples.append(_sample(number, size, random.Random(f"{seed} {size} {number}")))
    figures = {str(size): _figures([sample for sample in samples if sample.nodes == size]) for size in sizes}
    return {"sizes": figures}, [asdict(sample) for sample in samples]


def _sample(number: int, size: int, rng: random.Random) -> Sample:
    epoch = Ticks(_TICK_S).epoch_at(SystemClock().now_s())
    views = [view(size, epoch + later, rng) for later in range(2)]
    document = json.dumps(views[0].to_json())
    timed = _recompute_ms(views), _answer_us(views, rng), _http_ms(document, rng)
    return Sample(number, size, *timed, _peak_mib(document))


def _figures(samples: Sequence[Sample]) -> dict[str, float]:
    def median(of: Callable[[Sample], Sequence[float]]) -> float:
        return statistics.median(value for sample in samples for value in of(sample))

    return {
        "recompute_ms": round(median(lambda sample: sample.recompute_ms), 3),
        "answer_us": round(median(lambda sample: sample.answer_us), 2),
        "http_ms": round(median(lambda sample: sample.http_ms), 3),
        "peak_mib": round(median(lambda sample: [sample.peak_mib]), 2),
    }


def ranges(raw: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By size, from the least to the most of the rounds' medians of each time, by its name; of what `measure` gives."""
    found: dict[str, dict[str, list[float]]] = {}
    for nodes in dict.fromkeys(sample["nodes"] for sample in raw):
        rounds = [sample for sample in raw if sample["nodes"] == nodes]
        for name in ("recompute_ms", "answer_us", "http_ms"):
            medians = [statistics.median(sample[name]) for sample in rounds]
            found.setdefault(str(nodes), {})[name] = [round(min(medians), 3), round(max(medians), 3)]
    return found


def view(size: int, epoch: int, rng: random.Random) -> EpochView:
    """Satellites in planes, each linked to its neighbours in the plane and to those beside it in the next planes."""
    names = [f"sat-{number:05d}" for number in range(size)]
    across = max(3, math.isqrt(size))
    pairs = [(names[n], names[(n + step) % size]) for n in range(size) for step in (1, across)]
    nodes = [Node(name, "Sat", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n, name in enumerate(names)]
    links = [Link(a, b, round(rng.uniform(1, 20), 3), rng.choice([20.0, 40.0, 90.0])) for a, b in pairs]
    return EpochView(epoch, _TICK_S, _HERE, "area-1", names[-1], 200.0, 25.0, Topology.of(nodes, links), {})


def _recompute_ms(views: Sequence[EpochView]) -> list[float]:
    now, following = views
    current = ElectionTable(now, _HERE)

    def tick() -> None:
        fresh = Topology(following.topology.nodes, following.topology.links)  # one that no path was asked of
        ElectionTable(replace(following, topology=fresh), _HERE)
        current.followed_by(fresh)

    return [_seconds(tick) * 1e3 for _ in range(_TABLES)]


def _answer_us(views: Sequence[EpochView], rng: random.Random) -> list[float]:
    """Of one answer, in each batch."""
    settings = from_environment(NodeSettings, {"NODE_NAME": _HERE, "SKYLARK_TICK": f"{_TICK_S:g}s"})
    elect = Elect(settings, _GivenViews(settings, views), SystemClock())
    elect.table()
    names = list(views[0].topology.nodes)
    asked = [(rng.choice(names), rng.choice(_STATE_BYTES)) for _ in range(_ANSWERS)]

    def answer(batch: Sequence[tuple[str, int]]) -> None:
        for destination, size_bytes in batch:
            elect.storage_node(size_bytes, 0, "skylark", destination)

    batches = [asked[start : start + _BATCH] for start in range(0, _ANSWERS, _BATCH)]
    return [_seconds(partial(answer, batch)) / _BATCH * 1e6 for batch in batches]


class _GivenViews(NodeServices):
    """A node-info that need not be asked."""

    def __init__(self, settings: NodeSettings, views: Sequence[EpochView]) -> None:
        super().__init__(settings)
        self._views = {view.epoch: view for view in views}

    def view(self, epoch: int) -> EpochView:
        return self._views[epoch]


def _peak_mib(document: str) -> float:
    tracemalloc.start()
    try:
        ElectionTable(EpochView.from_json(json.loads(document)), _HERE)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _http_ms(document: str, rng: random.Random) -> list[float]:
    names = [node["node_name"] for node in json.loads(document)["nodes"]]
    with _node_info(document) as node_info_port, _elect(node_info_port) as url, requests.Session() as session:

        def ask() -> None:
            query: dict[str, str | int] = {"destination": rng.choice(names), "size": rng.choice(_STATE_BYTES)}
            session.get(f"{url}/storage-node", params=query, timeout=_HTTP_TIMEOUT_S).raise_for_status()

        try:
            ask()  # waits for the process and its first table
            return [_seconds(ask) * 1e3 for _ in range(_HTTP_ANSWERS)]
        except requests.RequestException as error:
            raise ElectionError(f"elect at {url} did not answer: {error}") from None


@contextmanager
def _node_info(document: str) -> Iterator[int]:
    """A node-info with one topology for every epoch; its port."""
    start, end = document.split('"epoch": ', 1)
    end = end[end.index(",") :]

    @Request.application
    def answer(request: Request) -> Response:
        epoch = request.args.get("epoch", 0, type=int)
        return Response(f'{start}"epoch": {epoch}{end}', content_type="application/json")

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextmanager
def _elect(node_info_port: int) -> Iterator[str]:
    """An elect as a node has it, served by gunicorn on a free port; its address."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        # The first connection is made before gunicorn sets this: its answers would all wait for a delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "--no-control-socket"]
        command += ["--worker-class", "gthread", "--threads", "4", "--log-level", "critical"]
        given = {name: value for name, value in os.environ.items() if not name.startswith(("SKYLARK_", "GUNICORN_"))}
        environment = {
            **given,
            "NODE_NAME": _HERE,
            "LOCAL_NODE_HOST": "127.0.0.1",
            "NODE_INFO_PORT": str(node_info_port),
            "SKYLARK_TICK": f"{_TICK_S:g}s",
            "SKYLARK_ELECT_TIMEOUT": f"{_HTTP_TIMEOUT_S:g}s",
        }
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            [*command, "libskylark.services.elect:create_app()"],
            env=environment,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _seconds(run: Callable[[], None]) -> float:
    started_s = time.perf_counter()
    run()
    return time.perf_counter() - started_s
