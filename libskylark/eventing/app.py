"""The broker process: `gunicorn --worker-class asgi libskylark.eventing.app:app`.

One worker is enough for a node; of several, each is a dispatcher of the stream in the node's Redis.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

from yarl import URL

from libskylark.clock import Clock, SystemClock
from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import read_constellation
from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.eventing.delivery import Courier
from libskylark.eventing.dispatch import Dispatcher, Subscription
from libskylark.eventing.ingress import Ingress, Receive, Scope, Send
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import Loaded, Objects, broker_of, load_objects
from libskylark.eventing.objects import Destination, PingSource
from libskylark.eventing.pingsource import PingRunner
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.resolve import Here, Locator, NoServices, Target, resolve
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.settings import BrokerSettings
from libskylark.eventing.stream import Stream
from libskylark.yamlfile import Location

# gunicorn stops for good on this exit code of a worker; with any other it starts the next one, for ever.
_APP_LOAD_ERROR: Final = 4

# What an event leaves behind has hardly a cycle in it, so there is little to look for.
_GC_THRESHOLDS: Final = (20_000, 50, 100)

log = logging.getLogger("skylark.broker")


class BrokerApp:
    """The ASGI application of one node's brokers; it lives from lifespan startup to shutdown."""

    def __init__(
        self, node: NodeSettings, broker: BrokerSettings, objects: Objects, locator: Locator, clock: Clock
    ) -> None:
        """Raises DocumentError for a Trigger or PingSource that refers to what this constellation has not."""
        self._node = node
        self._broker = broker
        self._objects = objects
        self._clock = clock
        here = Here(node.node, node.host, node.broker_port)
        faults: list[Fault] = []
        self._subscriptions = _subscriptions(objects, here, locator, faults)
        self._ping_targets = _ping_targets(objects, here, locator, faults)
        if faults:
            raise DocumentError(faults)
        self._ingress: Ingress | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: HTTP requests, and the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            assert self._ingress is not None, "the server must run the lifespan"
            await self._ingress(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            await self._start(stack)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, stack: AsyncExitStack) -> None:
        courier = await stack.enter_async_context(Courier(self._broker.max_body_bytes))
        intake = Intake(self._objects, self._clock)
        readdresser = self._readdresser(courier, intake)
        dispatcher = Dispatcher(self._subscriptions, intake, courier, readdresser, self._clock, self._broker.in_flight)
        stream = Stream(
            self._node.host,
            self._node.redis_port,
            self._node.password,
            dispatcher.dispatch,
            dispatcher.begin_anew,
            self._node.store_timeout_s,
            self._broker.stream_max,
            self._broker.lease_s,
        )
        dispatcher.attach(stream)
        stream.start()
        stack.push_async_callback(self._stop, dispatcher, stream)
        self._ingress = Ingress(intake, stream, self._broker.max_body_bytes)
        if self._broker.ping_sources == "on":
            for source, target in self._ping_targets:
                runner = PingRunner(source, target, intake, stream, courier, self._clock, self._node.tick_s)
                stack.push_async_callback(_cancel, asyncio.create_task(runner.run()))
        log.info(
            "broker of %s: %d brokers, %d triggers, PingSources %s",
            self._node.node,
            len(self._objects.brokers),
            len(self._objects.triggers),
            self._broker.ping_sources,
        )

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
    return BrokerApp(node, broker, load_objects(broker.paths), locator, clock or SystemClock())


def _subscriptions(objects: Objects, here: Here, locator: Locator, faults: list[Fault]) -> list[Subscription]:
    subscriptions = []
    for loaded in objects.triggers.values():
        trigger = loaded.object
        broker = objects.brokers[trigger.broker_id].object
        hop = f"{trigger.broker_id}/{trigger.name}"
        target = _resolve(loaded, ("spec", "subscriber"), trigger.spec.subscriber, here, locator, faults, hop)
        # A Trigger's delivery replaces the Broker's whole.
        delivery, owner = trigger.spec.delivery or broker.delivery, trigger.spec.delivery
        sink = None
        if delivery is not None and delivery.dead_letter_sink is not None:
            location: Location = ("spec", "delivery", "deadLetterSink")
            place = loaded if owner else objects.brokers[trigger.broker_id]
            sink = _resolve(place, location, delivery.dead_letter_sink, here, locator, faults)
        if target is not None:
            policy = RetryPolicy.of(delivery)
            subscriptions.append(Subscription(trigger.id, trigger.namespace, target, policy, sink))
    return subscriptions


def _ping_targets(
    objects: Objects, here: Here, locator: Locator, faults: list[Fault]
) -> list[tuple[PingSource, str | Target]]:
    targets: list[tuple[PingSource, str | Target]] = []
    for loaded in objects.ping_sources.values():
        source = loaded.object
        target: str | Target | None = broker_of(source.spec.sink, source.namespace)
        if target is None or source.spec.sink.uri:
            target = _resolve(loaded, ("spec", "sink"), source.spec.sink, here, locator, faults)
        if target is not None:
            targets.append((source, target))
    return targets


def _resolve(
    loaded: Loaded[Any],
    location: Location,
    destination: Destination,
    here: Here,
    locator: Locator,
    faults: list[Fault],
    hop: str = "",
) -> Target | None:
    try:
        return resolve(destination, loaded.object.namespace, here, locator, hop)
    except (ConfigError, LookupError) as error:
        faults.append(loaded.fault(location, str(error)))
        return None


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def __getattr__(name: str) -> BrokerApp:
    """`app`, built from the environment when a server asks for it; faults are printed, without a traceback."""
    if name != "app":
        raise AttributeError(name)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app = create_app()
    except ConfigError as error:
        sys.stderr.write(f"The broker cannot start.\n{error}\n")
        raise SystemExit(_APP_LOAD_ERROR) from None
    # What was loaded stays; without this, every full collection under load walks all of it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    globals()["app"] = app
    return app
