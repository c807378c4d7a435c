"""The broker process: `gunicorn --worker-class asgi libskylark.eventing.app:app`.

One worker is enough for a node; of several, each is a dispatcher of the stream in the node's Redis.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Final

from yarl import URL

from libskylark.clock import Clock, SystemClock
from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import read_constellation
from libskylark.errors import ConfigError
from libskylark.eventing.delivery import Courier
from libskylark.eventing.dispatch import Dispatcher
from libskylark.eventing.http_server import HttpServer
from libskylark.eventing.ingress import Ingress
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import Objects, load_objects
from libskylark.eventing.metrics import BrokerMetrics
from libskylark.eventing.outbound import Outbound
from libskylark.eventing.pinging import Pings
from libskylark.eventing.pingsource import PingRunner
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.reloading import Reloader
from libskylark.eventing.resolve import Here, Locator, NoServices
from libskylark.eventing.settings import BrokerSettings
from libskylark.eventing.stream import Stream
from libskylark.eventing.watching import Watch
from libskylark.eventing.wiring import Wiring, wire
from libskylark.logs import LogSettings, configure_logs

# gunicorn stops for good on this exit code of a worker; with any other it starts the next one, for ever.
_APP_LOAD_ERROR: Final = 4

# What an event leaves behind has hardly a cycle in it, so there is little to look for.
_GC_THRESHOLDS: Final = (20_000, 50, 100)

log = logging.getLogger("skylark.broker")


_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class BrokerApp:
    """The brokers of one node; they live from lifespan startup to shutdown."""

    def __init__(self, node: NodeSettings, broker: BrokerSettings, locator: Locator, clock: Clock) -> None:
        """Reads the objects; raises DocumentError with every fault of them."""
        self._node = node
        self._broker = broker
        self._clock = clock
        self._locator = locator
        self._watch = Watch(broker.paths)  # before the files are read, so that no change is overlooked
        self._wiring = self._wire(self._read())

    async def __call__(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """ASGI's lifespan; from its startup on, HTTP goes past ASGI."""
        if scope["type"] != "lifespan":
            raise RuntimeError("expected gunicorn's worker class asgi, with its lifespan")
        await receive()
        async with AsyncExitStack() as stack:
            await self._start(stack)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _read(self) -> Objects:
        return load_objects(self._broker.paths)

    def _wire(self, objects: Objects) -> Wiring:
        here = Here(self._node.node, self._node.host, self._node.broker_port, self._broker.allow)
        return wire(objects, here, self._locator)

    async def _start(self, stack: AsyncExitStack) -> None:
        courier = await stack.enter_async_context(Courier(self._broker.max_body_bytes, self._outbound()))
        objects = self._wiring.objects
        intake = Intake(objects, self._clock)
        readdresser = self._readdresser(courier, intake)
        subscriptions = self._wiring.subscriptions.values()
        metrics, clock, tick_s = BrokerMetrics(self._node.node), self._clock, self._node.tick_s
        dispatcher = Dispatcher(subscriptions, intake, courier, readdresser, clock, metrics, self._broker.in_flight)
        stream = Stream(
            self._node.host,
            self._node.redis_port,
            self._node.password,
            dispatcher.dispatch,
            dispatcher.begin_anew,
            self._node.store_timeout_s,
            self._broker.caps,
            self._broker.lease_s,
            on_failed=lambda: os.kill(os.getpid(), signal.SIGTERM),  # whoever started this process starts it anew
        )
        dispatcher.attach(stream)
        stream.start()
        stack.push_async_callback(self._stop, dispatcher, stream)
        ingress = Ingress(intake, stream, metrics, dispatcher.queues, self._node.token)
        HttpServer(self._broker, ingress, clock).install()
        pings = Pings(lambda ping: PingRunner(ping, intake, stream, courier, clock, tick_s, metrics.count_event))
        stack.push_async_callback(pings.close)

        def exchange(wiring: Wiring) -> None:
            """Between two events: nothing here waits."""
            stream.note_triggers(wiring.routes.generation, wiring.routes.triggers_of)
            intake.exchange(wiring.routes)
            dispatcher.exchange(wiring.subscriptions.values())
            if self._broker.ping_sources == "on":
                pings.exchange(wiring.pings)

        exchange(self._wiring)
        reloader = Reloader(self._wiring, self._watch, self._read, self._wire, exchange)
        stack.push_async_callback(_cancel, asyncio.create_task(reloader.run()))
        log.info(
            "broker of %s: %d brokers, %d triggers, PingSources %s",
            self._node.node,
            len(objects.brokers),
            len(objects.triggers),
            self._broker.ping_sources,
        )
        for notice in objects.notices:
            log.info("notice: %s", notice)

    def _outbound(self) -> Outbound:
        hosts = [self._node.host, *(node.ip for node in self._locator.nodes.values())]
        return Outbound.of(hosts, self._node.broker_port, self._node.token, self._broker.allow)

    def _readdresser(self, courier: Courier, intake: Intake) -> Readdresser:
        url = URL.build(scheme="http", host=self._node.host, port=self._node.elect_port, path="/address")
        after_s, timeout_s = self._broker.readdress_after_s, self._node.elect_timeout_s
        return Readdresser(url, courier, intake, self._clock, after_s, timeout_s)

    async def _stop(self, dispatcher: Dispatcher, stream: Stream) -> None:
        await dispatcher.close(self._broker.grace_s)
        await stream.stop()
        log.info("broker of %s stops; %d events stay in the stream", self._node.node, stream.waiting)


def create_app(
    node: NodeSettings | None = None,
    broker: BrokerSettings | None = None,
    locator: Locator | None = None,
    clock: Clock | None = None,
) -> BrokerApp:
    """The application; settings that are not given come from the environment. Raises ConfigError."""
    node = node or from_environment(NodeSettings)
    broker = broker or from_environment(BrokerSettings)
    if locator is None:
        locator = read_constellation(node.constellation) if node.constellation else NoServices()
    return BrokerApp(node, broker, locator, clock or SystemClock())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def __getattr__(name: str) -> BrokerApp:
    """`app`, built from the environment when a server asks for it; faults are printed, without a traceback."""
    if name != "app":
        raise AttributeError(name)
    try:
        node, settings = from_environment(NodeSettings), from_environment(BrokerSettings)
        if not logging.getLogger().hasHandlers():  # else whoever has started this process has seen to it
            configure_logs("broker", node.node, from_environment(LogSettings))
        app = create_app(node, settings)
    except ConfigError as error:
        sys.stderr.write(f"The broker cannot start.\n{error}\n")
        raise SystemExit(_APP_LOAD_ERROR) from None
    # What was loaded stays; without this, every full collection under load walks all of it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    globals()["app"] = app
    return app
