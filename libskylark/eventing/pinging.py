"""The PingSources that run now, and how one takes another's place without a tick too many or too few."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from libskylark.eventing.pingsource import Ping, PingRunner

log = logging.getLogger("skylark.broker")


@dataclass(frozen=True, slots=True)
class _Running:
    ping: Ping
    runner: PingRunner
    task: asyncio.Task[float]


class Pings:
    """Runs PingSources, each in a task; `start` makes the runner of one."""

    def __init__(self, start: Callable[[Ping], PingRunner]) -> None:
        self._start = start
        self._running: dict[str, _Running] = {}

    def exchange(self, pings: Mapping[str, Ping]) -> None:
        """Runs these from now on: unchanged ones go on, changed ones from where they were, others stop."""
        for name in self._running.keys() - pings.keys():
            self._running.pop(name).task.cancel()
        for name, ping in pings.items():
            former = self._running.get(name)
            if former is not None and former.ping.traits == ping.traits:
                continue
            if former is not None:
                former.runner.stop()
            runner = self._start(ping)
            task = asyncio.create_task(_run(runner, former.task if former else None))
            task.add_done_callback(_told)
            self._running[name] = _Running(ping, runner, task)

    async def close(self) -> None:
        """Stops all of them at once."""
        tasks = [each.task for each in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(runner: PingRunner, former: asyncio.Task[float] | None) -> float:
    since_s = None
    if former is not None:
        with suppress(Exception):  # it was told when it failed; this one begins anew
            since_s = await former
    return await runner.run(since_s)


def _told(task: asyncio.Task[float]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a PingSource failed within the broker, and sends nothing any more", exc_info=error)
