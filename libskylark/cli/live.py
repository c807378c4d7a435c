"""What `skylark up` shows in a terminal: a bar while the lab starts, then a table of its nodes that follows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from libskylark.clock import Ticks
from libskylark.constellation import Constellation
from libskylark.errors import StoreUnavailable
from libskylark.eventing import journal
from libskylark.jobs import MOVES
from libskylark.lab.census import NodeCounts, count_node
from libskylark.lab.lab import Lab
from libskylark.lab.process import ProcessSpec
from libskylark.store import RedisClient, Store

_PERIOD_S: Final = 1.0
_UNKNOWN: Final = "?"
_LEGEND: Final = "journal: records of the broker, two or more for each event"


@contextmanager
def starting(screen: Console, lab: Lab) -> Iterator[Callable[[ProcessSpec], None]]:
    """A bar of the processes that are ready; yields what is to be told of each. Shows nothing but in a terminal."""
    columns = (TextColumn("starting the nodes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=len(lab.plan.all_specs()))
        yield lambda spec: progress.update(task, advance=1, description=spec.name)


@contextmanager
def watching(screen: Console, lab: Lab) -> Iterator[None]:
    """The table, as long as the context lasts; what is printed meanwhile stands above it. Nothing but in a terminal."""
    if not screen.is_terminal:
        yield
        return
    names = {name: [s.name for s in lab.plan.all_specs() if s.node == name] for name in lab.plan.constellation.nodes}
    nodes = NodeTable(lab.plan.constellation, lab.plan.tick_s, lab.stores(), names, lab.supervisor.pid)
    leaving = threading.Event()
    with Live(nodes.draw(time.time()), console=screen, transient=True, auto_refresh=False) as live:

        def follow() -> None:
            while not leaving.wait(_PERIOD_S):
                live.update(nodes.draw(time.time()), refresh=True)

        thread = threading.Thread(target=follow, name="live-table")
        thread.start()
        try:
            yield
        finally:
            leaving.set()
            thread.join()


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of one node: its counts, and how many moves and journal records there ever were."""

    counts: NodeCounts
    moves: int
    records: int


class NodeTable:
    """A lab's nodes as they are now; `names` has the processes of each, `pid` the number of one, 0 while it is down."""

    def __init__(
        self,
        constellation: Constellation,
        tick_s: float,
        stores: Mapping[str, Store],
        names: Mapping[str, list[str]],
        pid: Callable[[str], int],
    ) -> None:
        self._constellation = constellation
        self._ticks = Ticks(tick_s)
        self._stores = stores
        self._names = names
        self._pid = pid

    def draw(self, now_s: float) -> Table:
        """Looks at every node, and makes the table; a node whose Redis does not answer has question marks."""
        epoch = self._ticks.epoch_at(now_s)
        above, following = self._constellation.access(epoch), self._constellation.access(epoch + 1)
        left_s = self._ticks.ends_s(epoch) - now_s
        title = f"epoch {epoch}: {above} is above, {following} comes next in {left_s:.0f} s"
        table = Table(title=title, title_justify="left", caption=_LEGEND, caption_justify="left", box=None)
        for name in ("node", "type", "alive"):
            table.add_column(name, no_wrap=True)
        for name in ("waiting", "moving", "moves", "dead", "journal"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, node in self._constellation.nodes.items():
            own = self._names[name]
            alive = sum(self._pid(process) > 0 for process in own)
            told = f"{alive}/{len(own)}" if alive == len(own) else f"[red]{alive}/{len(own)}[/red]"
            shown = f"[bold]{name}[/bold]" if name == above else name
            table.add_row(shown, node.type, told, *self._figures(name))
        return table

    def _figures(self, node: str) -> list[str]:
        try:
            seen = _look(self._stores[node])
        except StoreUnavailable:
            return [_UNKNOWN] * 5
        counts = seen.counts
        dead = f"[red]{counts.dead_letters}[/red]" if counts.dead_letters else "0"
        return [str(counts.waiting), str(counts.moving), f"{seen.moves:,}", dead, f"{seen.records:,}"]


def _look(store: Store) -> _Seen:
    """Raises StoreUnavailable."""

    def read(client: RedisClient) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for stream in (MOVES, journal.KEY):
            pipeline.xinfo_stream(stream)
        return pipeline.execute(raise_on_error=False)

    # A stream that is not there yet is answered by an error.
    moves, records = (found["entries-added"] if isinstance(found, dict) else 0 for found in store.run(read))
    return _Seen(count_node(store), moves, records)
