"""What elect answers from: the tables of this epoch and the next, computed at the tick and swapped in whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from libskylark.clock import Clock, Ticks, rfc3339
from libskylark.config import NodeSettings, PolicyName
from libskylark.election import ElectionTable, EpochView
from libskylark.errors import BadInput, ElectionError
from libskylark.nodeservices import NodeServices, Successors
from libskylark.policy import Decision
from libskylark.services.health import Health

log = logging.getLogger("skylark.elect")

_LATE_S = 2.0  # how long a tick may be overdue before elect goes on by its own clock
_MOST_TABLES = 8  # that are kept, those of epochs further ahead included
_MOMENT_S = 0.01  # more than what the epochs' grid forgives
_OFFERED = 32  # candidates and hosts of one answer that health hears of


@dataclass(frozen=True)
class _Tables:
    """The epoch that elect is in, and the tables that it has: of this epoch and the next at least.

    Never changed, only replaced: whoever reads it needs no lock.
    """

    epoch: int
    by_epoch: Mapping[int, ElectionTable]
    until_s: float  # a moment before the epoch ends: until then there is no question which table is in force

    @property
    def current(self) -> ElectionTable:
        return self.by_epoch[self.epoch]

    def having(self, table: ElectionTable) -> _Tables:
        """The same with one more, in place of the one furthest ahead where there are too many."""
        kept = dict(sorted(self.by_epoch.items())[: _MOST_TABLES - 1])
        return replace(self, by_epoch={**kept, table.epoch: table})


class Elect:
    """Answers from the tables of this epoch and the next, which are swapped in whole."""

    def __init__(
        self,
        settings: NodeSettings,
        services: NodeServices,
        clock: Clock,
        on_decision: Callable[[Decision], None] = lambda _: None,
    ) -> None:
        """`on_decision` hears of every answer to where state goes."""
        self.settings = settings
        self._on_decision = on_decision
        self.health = Health(settings, clock, self.hosts)
        self._services = services
        self._clock = clock
        self._ticks = Ticks(settings.tick_s)
        self._tables: _Tables | None = None
        self._writing = Lock()  # held while tables are computed; answers come from the old ones meanwhile

    @property
    def epoch(self) -> int:
        """The epoch that it answers for; -1 before the first tables."""
        return self._tables.epoch if self._tables else -1

    def tick(self, epoch: int) -> EpochView:
        """Moves on to `epoch`, unless a later one came already; idempotent.

        Raises BadInput for an epoch that this node's clock is far from, ElectionError while node-info does not answer.
        """
        now_s = self._clock.now_s()
        own = self._ticks.epoch_at(now_s)
        if epoch > own + 1:
            found = f"found a tick of epoch {epoch}, which begins {rfc3339(self._ticks.starts_s(epoch))}"
            raise BadInput(f"{found}; expected at most {own + 1}: this node's clock says {rfc3339(now_s)}")
        with self._writing:
            if self._tables is None or epoch > self._tables.epoch:
                self._tables = self._computed(epoch)
            table = self._tables.by_epoch.get(epoch)
        return table.view if table else self._services.view(epoch)

    def of_epoch(self, epoch: int) -> ElectionTable:
        """The table of an epoch, computed now if it is none of those at hand; raises ElectionError."""
        tables = self._tables
        return (tables.by_epoch.get(epoch) if tables else None) or self._ahead(epoch)

    def refresh(self) -> ElectionTable:
        """Forgets the tables and computes them anew; raises ElectionError and keeps them if node-info is silent."""
        with self._writing:
            own = self._ticks.epoch_at(self._clock.now_s())
            known, self._tables = self._tables, None
            try:
                self._tables = self._computed(max(known.epoch, own) if known else own)
            finally:
                self._tables = self._tables or known
        return self.table()

    def table(self, in_ms: float = 0.0) -> ElectionTable:
        """The table in force `in_ms` from now; raises ElectionError where node-info must be asked and is silent."""
        return self._at(self._clock.now_s(), in_ms)

    def hosts(self) -> Mapping[str, str]:
        """The address of every node that runs a function; empty before the first table."""
        tables = self._tables
        return tables.current.hosts if tables else {}

    def successors(self, functions: Iterable[str], policy: PolicyName, destination: str | None) -> Successors:
        """Candidates and hosts for an event that `functions` take."""
        table = self.table()
        functions = list(functions)
        offer = table.offer(functions, policy, destination)
        self.health.offer(offer.hosts[:_OFFERED][::-1])
        self.health.offer([candidate.node for candidate in offer.candidates[:_OFFERED]][::-1])
        return Successors(
            table.epoch,
            max(self._ticks.ends_s(table.epoch), self._clock.now_s() + 0.1),
            policy,
            table.view.max_latency_ms,
            table.staying,
            offer.candidates,
            offer.hosts,
            functions,
        )

    def choose(self, found: Successors, size_bytes: int, avoid: Collection[str] = ()) -> tuple[Decision, str | None]:
        """Where state and event go now, given who is suspect; nodes in `avoid` count as suspect."""
        suspects = {*self.health.suspects, *avoid} if avoid else self.health.suspects
        decision, node = found.choose(size_bytes, self._clock.now_s(), suspects)
        self._on_decision(decision)
        return decision, node

    def storage_node(self, size_bytes: int, in_ms: float, policy: PolicyName, destination: str | None) -> Decision:
        """Where `size_bytes` of state should be kept, written `in_ms` from now: any node may do."""
        now_s = self._clock.now_s()
        table, suspects = self._at(now_s, in_ms), self.health.suspects
        candidates = table.candidates(policy, destination)
        decision = table.policies[policy].choose(candidates, table.staying, size_bytes, now_s + in_ms / 1000, suspects)
        self.health.offer((decision.candidate.node,))
        self._on_decision(decision)
        return decision

    def _at(self, now_s: float, in_ms: float) -> ElectionTable:
        tables = self._tables
        if tables is not None and now_s + in_ms / 1000 < tables.until_s:
            return tables.current
        epoch = self._ticks.epoch_at(now_s)
        if tables is None or epoch > tables.epoch:
            tables = self._by_the_clock(epoch, now_s)
        wanted = max(tables.epoch, self._ticks.epoch_at(now_s + in_ms / 1000)) if in_ms else tables.epoch
        return tables.by_epoch.get(wanted) or self._ahead(wanted)

    def _by_the_clock(self, epoch: int, now_s: float) -> _Tables:
        """The tables to answer from while no tick of `epoch` has come."""
        overdue_s = now_s - self._ticks.starts_s(epoch)
        tables = self._tables
        if tables is not None and overdue_s <= min(_LATE_S, self.settings.tick_s / 4):
            return tables
        # Where there is something to answer from, one caller computes and the others go on with it.
        if not self._writing.acquire(blocking=tables is None):
            assert tables is not None, "acquire blocks where there are none"
            return tables
        try:
            tables = self._tables
            if tables is None or epoch > tables.epoch:
                if tables is not None:
                    log.warning("no tick for epoch %d after %.1f s: going on by the clock", epoch, overdue_s)
                tables = self._tables = self._computed(epoch)
            return tables
        finally:
            self._writing.release()

    def _computed(self, epoch: int) -> _Tables:
        """The tables of `epoch` and the next, from those that are known already and from node-info."""
        known = self._tables.by_epoch if self._tables else {}
        current = known.get(epoch) or self._table(epoch)
        until_s = self._ticks.ends_s(epoch) - _MOMENT_S
        try:
            following = known.get(epoch + 1) or self._table(epoch + 1)
        except ElectionError as error:  # half an answer is better than none: nobody is known to leave
            log.warning("epoch %d begins without knowledge of the next: %s", epoch, error)
            return _Tables(epoch, {epoch: current}, until_s)
        tables = {epoch: current.followed_by(following.view.topology), epoch + 1: following}
        return _Tables(epoch, tables, until_s)

    def _ahead(self, epoch: int) -> ElectionTable:
        """The table of an epoch that is not at hand, which is kept if that is one to come."""
        table = self._table(epoch)
        with self._writing:
            if self._tables is not None and epoch > self._tables.epoch:
                self._tables = self._tables.having(table)
        return table

    def _table(self, epoch: int) -> ElectionTable:
        return ElectionTable(self._services.view(epoch), self.settings.node)
