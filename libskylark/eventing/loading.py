"""Broker, Trigger and PingSource objects read from files and folders; every fault of every file in one error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from libskylark.errors import DocumentError, Fault
from libskylark.eventing.notices import Notice, left_alone, notice, notices_of
from libskylark.eventing.objectfiles import object_files
from libskylark.eventing.objects import EVENTING_GROUP, Broker, Destination, Trigger
from libskylark.eventing.sources import SOURCES_GROUP, PingSource
from libskylark.yamlfile import Document, Location, read_documents

Kind = TypeVar("Kind", Broker, Trigger, PingSource)

_KINDS: Final[dict[str, dict[str, type[Broker] | type[Trigger] | type[PingSource]]]] = {
    EVENTING_GROUP: {"Broker": Broker, "Trigger": Trigger},
    SOURCES_GROUP: {"PingSource": PingSource},
}
# Knative kinds of these groups that a cluster knows and this engine has no use for.
_SKIPPED: Final = {
    EVENTING_GROUP: {"EventType", "EventPolicy", "EventTransform", "RequestReply", "RabbitmqBrokerConfig"},
    SOURCES_GROUP: {"ApiServerSource", "ContainerSource", "SinkBinding", "IntegrationSource"},
}
# Whose Brokers this engine stands in for; those of another class are for the engine of that class, as in Knative.
_CLASS: Final = "eventing.knative.dev/broker.class"
_OWN_CLASS: Final = "MTChannelBasedBroker"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Kind]):
    """An object and the document that it came from (None for one that is implied)."""

    object: Kind
    document: Document | None = None

    @property
    def file(self) -> str:
        return self.document.file if self.document else "(implied)"

    @property
    def line(self) -> int:
        """The line (1-based) on which the object starts."""
        return self.document.first_line if self.document else 0

    def fault(self, location: Location, message: str) -> Fault:
        """A fault at a field of this object."""
        if self.document is None:
            return Fault(self.file, 0, "", message)
        return self.document.fault(location, message)


@dataclass(slots=True)
class Objects:
    """What the files define, by `namespace/name`, in the order of the files, and what of it has no meaning here.

    `foreign` has the classes of the Brokers that engines of other classes serve; their Triggers are left out.
    """

    brokers: dict[str, Loaded[Broker]] = field(default_factory=dict)
    triggers: dict[str, Loaded[Trigger]] = field(default_factory=dict)
    ping_sources: dict[str, Loaded[PingSource]] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)


def load_objects(paths: Iterable[Path]) -> Objects:
    """The objects of files and folders (read recursively); a Broker default/default is implied where none is given.

    Raises DocumentError with all faults of all files.
    """
    objects, faults = Objects(), list[Fault]()
    for path in paths:
        files, unreadable = object_files(path)
        faults.extend(unreadable)
        for file in files:
            _read_file(file, objects, faults)
    if not faults:  # with faulty files left out, a broker may just not have been read
        if not objects.brokers and not objects.foreign:
            implied = {"apiVersion": f"{EVENTING_GROUP}/v1", "kind": "Broker", "metadata": {"name": "default"}}
            objects.brokers["default/default"] = Loaded(Broker.model_validate(implied))
        _set_aside(objects)
        faults.extend(_cross_faults(objects))
    if faults:
        raise DocumentError(sorted(faults, key=lambda fault: (fault.file, fault.line)))
    return objects


def _read_file(path: Path, objects: Objects, faults: list[Fault]) -> None:
    try:
        documents = [item for document in read_documents(path) for item in _items(document)]
    except DocumentError as error:
        faults.extend(error.faults)
        return
    for document in documents:
        try:
            _read_object(document, objects)
        except DocumentError as error:
            faults.extend(error.faults)


def _items(document: Document) -> Iterator[Document]:
    """The objects of a List, which is what `kubectl get -o yaml` writes; any other document is one itself."""
    if (document.content.get("apiVersion"), document.content.get("kind")) != ("v1", "List"):
        yield document
        return
    items = document.content.get("items")
    if not isinstance(items, CommentedSeq):
        raise DocumentError([document.fault(("items",), f"found {items!r}, expected a list of objects")])
    for position, item in enumerate(items):
        if not isinstance(item, CommentedMap):
            raise DocumentError([document.fault(("items", position), f"found {item!r}, expected an object")])
        yield Document(document.file, item, item.lc.line + 1)


def _read_object(document: Document, objects: Objects) -> None:
    api_version, kind = (document.content.get(name) for name in ("apiVersion", "kind"))
    given = {"apiVersion": api_version, "kind": kind}
    if missing := [name for name, value in given.items() if not value]:
        raise DocumentError([document.fault((name,), "is required") for name in missing])
    if odd := [name for name, value in given.items() if not isinstance(value, str)]:
        raise DocumentError([document.fault((name,), f"found {given[name]!r}, expected a text") for name in odd])
    group = str(api_version).partition("/")[0]
    if group not in _KINDS or kind in _SKIPPED[group]:
        objects.notices.append(notice(document, ("kind",), kind))
        return
    if kind not in _KINDS[group]:
        known = ", ".join(sorted({*_KINDS[group], *_SKIPPED[group]}))
        raise DocumentError([document.fault(("kind",), f"found {kind!r}, expected one of {known}")])
    if api_version != f"{group}/v1":
        raise DocumentError([document.fault(("apiVersion",), f"found {api_version!r}, expected '{group}/v1'")])
    model = _KINDS[group][kind]
    if model is Broker:
        broker = document.validate(Broker)
        if (broker_class := broker.annotations.get(_CLASS, _OWN_CLASS)) != _OWN_CLASS:
            objects.foreign[broker.id] = broker_class
            place = ("metadata", "annotations", _CLASS)
            objects.notices.append(left_alone(document, place, f"a Broker of class {broker_class!r}"))
            return
        _add(objects.brokers, Loaded(broker, document))
    elif model is Trigger:
        _add(objects.triggers, Loaded(document.validate(Trigger), document))
    else:
        _add(objects.ping_sources, Loaded(document.validate(PingSource), document))
    objects.notices += notices_of(document)


def _add(known: dict[str, Loaded[Kind]], loaded: Loaded[Kind]) -> None:
    if faults := [loaded.fault(location, message) for location, message in loaded.object.faults()]:
        raise DocumentError(faults)
    if (first := known.get(loaded.object.id)) is not None:
        place = f"{first.file}:{first.line}"
        message = f"{loaded.object.kind} {loaded.object.id} is already defined in {place}"
        raise DocumentError([loaded.fault(("metadata", "name"), message)])
    known[loaded.object.id] = loaded


def _set_aside(objects: Objects) -> None:
    """Leaves out what belongs to Brokers of other classes alone: their engines serve it, as on a cluster."""
    for name, trigger in [*objects.triggers.items()]:
        if (reason := _foreign(trigger.object.broker_id, objects)) is not None and trigger.document is not None:
            del objects.triggers[name]
            objects.notices.append(left_alone(trigger.document, ("spec", "broker"), reason))
    for name, source in [*objects.ping_sources.items()]:
        broker = broker_of(source.object.spec.sink, source.object.namespace)
        reason = None if broker is None else _foreign(broker, objects)
        if reason is not None and source.document is not None:
            del objects.ping_sources[name]
            objects.notices.append(left_alone(source.document, ("spec", "sink", "ref", "name"), reason))


def _foreign(broker: str, objects: Objects) -> str | None:
    """Says that a Broker is another engine's; None where it is served here, or unknown."""
    if broker in objects.brokers or broker not in objects.foreign:
        return None
    return f"Broker {broker} is of class {objects.foreign[broker]!r}"


def _cross_faults(objects: Objects) -> Iterator[Fault]:
    """References to brokers that are not served here."""
    for trigger in objects.triggers.values():
        spec = trigger.object.spec
        yield from _broker_fault(trigger, ("spec", "broker"), trigger.object.broker_id, objects)
        yield from _sink_fault(trigger, ("spec", "subscriber"), spec.subscriber, objects)
        if spec.delivery and spec.delivery.dead_letter_sink:
            location = ("spec", "delivery", "deadLetterSink")
            yield from _sink_fault(trigger, location, spec.delivery.dead_letter_sink, objects)
    for source in objects.ping_sources.values():
        yield from _sink_fault(source, ("spec", "sink"), source.object.spec.sink, objects)
    for broker in objects.brokers.values():
        if broker.object.delivery and broker.object.delivery.dead_letter_sink:
            sink = broker.object.delivery.dead_letter_sink
            yield from _sink_fault(broker, ("spec", "delivery", "deadLetterSink"), sink, objects)


def _sink_fault(owner: Loaded[Kind], location: Location, sink: Destination, objects: Objects) -> Iterator[Fault]:
    if (broker := broker_of(sink, owner.object.namespace)) is not None:
        yield from _broker_fault(owner, (*location, "ref", "name"), broker, objects)


def _broker_fault(owner: Loaded[Kind], location: Location, broker: str, objects: Objects) -> Iterator[Fault]:
    if (reason := _foreign(broker, objects)) is not None:
        yield owner.fault(location, f"{reason}, which is not served here")
    elif broker not in objects.brokers:
        known = ", ".join(objects.brokers) or "none"
        yield owner.fault(location, f"no file defines Broker {broker}; defined are {known}")


def broker_of(destination: Destination, namespace: str) -> str | None:
    """`namespace/name` of the Broker that a destination refers to; None where it means something else."""
    if destination.ref is None or destination.ref.kind != "Broker":
        return None
    return f"{destination.ref.namespace or namespace}/{destination.ref.name}"
