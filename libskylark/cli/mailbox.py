"""The dead letters of a lab: those of all nodes in one list, each with its way back to the Trigger it was for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from libskylark.cli.options import console
from libskylark.cli.running import RunningLab
from libskylark.cli.waiting import ask_all, require_an_answer
from libskylark.client import Client
from libskylark.clock import SystemClock
from libskylark.errors import BrokerUnavailable, CodecError, LabError, SendError, StoreUnavailable
from libskylark.event import EXPIRY, Event
from libskylark.eventing.entry import TTL, seconds_left
from libskylark.eventing.explain import stopped_by
from libskylark.eventing.letters import DeadLetter, count_dropped, event_of, list_letters, remove_letter
from libskylark.eventing.loading import load_objects
from libskylark.eventing.resolve import Here, resolve
from libskylark.lab.record import node_stores
from libskylark.project import OBJECT_FOLDERS


@dataclass(frozen=True, eq=False, slots=True)
class Mail:
    """A dead letter among those of all nodes; `number` counts from the oldest, which is 1."""

    number: int
    node: str
    letter: DeadLetter

    @property
    def id(self) -> str:
        return f"{self.node}/{self.letter.position}"

    @property
    def trigger(self) -> str:
        return self.letter.trigger

    @property
    def event(self) -> Event:
        """Without its data."""
        return Event(self.letter.attributes)

    def to_json(self) -> dict[str, Any]:
        letter = self.letter
        return {
            "number": self.number,
            "id": self.id,
            "node": self.node,
            "time": letter.time,
            "trigger": letter.trigger,
            "type": self.event.type,
            "event": self.event.id,
            "source": self.event.source,
            "status": letter.status,
            "attempts": letter.attempts,
            "reason": letter.reason,
            "size_bytes": letter.size_bytes,
            "receivers": list(letter.receivers),
            "chain": letter.chain,
            "arrived": letter.arrived,
            "ttl": letter.ttl,
            "headers": dict(letter.headers),
        }


class Mailbox:
    """All dead letters, oldest first; `silent` are the nodes that do not tell theirs, and why.

    `dropped` says by node how many gave way to later ones, as a node keeps so many. Raises LabError where no node's
    Redis answers.
    """

    def __init__(self, lab: RunningLab) -> None:
        self._stores, self.silent = ask_all(node_stores(lab.constellation), console(quiet=True))
        require_an_answer(self._stores, self.silent)
        self.dropped: dict[str, int] = {}
        found: list[tuple[str, DeadLetter]] = []
        for node, store in self._stores.items():
            try:
                found += [(node, letter) for letter in list_letters(store)]
                self.dropped[node] = count_dropped(store)
            except (StoreUnavailable, CodecError) as error:
                self.silent[node] = str(error)
        found.sort(key=lambda each: each[1].time)
        self.mails = [Mail(number, node, letter) for number, (node, letter) in enumerate(found, start=1)]

    def find(self, name: str) -> Mail:
        """The letter of a number or an id; raises click's error where there is none."""
        for mail in self.mails:
            if name in (str(mail.number), mail.id):
                return mail
        known = f"a number from 1 to {len(self.mails)}, or an id: see `skylark dead-letters list`"
        raise click.BadParameter(
            f"found {name!r}, expected {known if self.mails else 'none: there are no dead letters'}"
        )

    def find_surely(self, name: str) -> Mail:
        """The same; raises LabError for a number while a node's letters are missing in the count."""
        if name.isdecimal() and self.silent:
            missing = ", ".join(self.silent)
            raise LabError(f"numbers may be others while {missing} cannot be read; name the letter by its id")
        return self.find(name)

    def event(self, mail: Mail) -> Event | None:
        """The whole event; None where the letter is there no more. Raises StoreUnavailable and CodecError."""
        return event_of(self._stores[mail.node], mail.letter.position)

    def remove(self, mail: Mail) -> None:
        """Raises StoreUnavailable."""
        remove_letter(self._stores[mail.node], mail.letter.position)


class Replayer:
    """Hands dead letters to the brokers again, each for its own Trigger only."""

    def __init__(self, lab: RunningLab, box: Mailbox, project: Path, ttl: int | None = None) -> None:
        """`ttl` takes the place of the one that a letter has kept.

        Raises DocumentError where the files of the project's Triggers are faulty.
        """
        own = Path(lab.record["constellation"]).parent / "objects"  # what a lab adds to the project's
        folders = [*(project / name for name in OBJECT_FOLDERS), own]
        self._triggers = load_objects(folder for folder in folders if folder.is_dir()).triggers
        self._lab = lab
        self._box = box
        self._ttl = ttl
        self._clients: dict[str, Client] = {}
        self._busy: dict[str, BrokerUnavailable] = {}

    def replay(self, mail: Mail) -> list[tuple[str, str]] | None:
        """(Trigger, node whose broker has taken the event for it); the letter is gone then. None where it was before.

        May be repeated after any failure. Raises SendError where no broker takes the event, ConfigError where its
        Trigger leads nowhere, StoreUnavailable.
        """
        event = self._box.event(mail)
        if event is None:
            return None
        if seconds_left(event, SystemClock()) <= 0:
            raise SendError(f"the event has expired at {event.attributes[EXPIRY]}, and would not be delivered")
        event = event.with_attributes(**{TTL: self._ttl_of(mail.letter)})
        addresses = [self._address(mail, trigger) for trigger in mail.letter.receivers]
        for url, _ in addresses:
            self._send(url, event, mail.letter)
        self._box.remove(mail)
        return [(trigger, node) for trigger, (_, node) in zip(mail.letter.receivers, addresses, strict=True)]

    def _ttl_of(self, letter: DeadLetter) -> str | None:
        """The new TTL, else the one that is kept, if any."""
        if self._ttl is None and letter.is_spent:
            raise SendError(
                f"it is an answer of {letter.trigger} that had no TTL left, in what may be a loop of Triggers; "
                f"with --ttl N it goes on for up to N more answers"
            )
        ttl = self._ttl or letter.ttl
        return None if ttl is None else str(ttl)

    def _send(self, url: str, event: Event, letter: DeadLetter) -> None:
        if url in self._busy:
            raise self._busy[url]
        try:
            self._clients.setdefault(url, Client(url, token=self._lab.settings.token)).send(event, letter.headers)
        except BrokerUnavailable as error:
            self._busy[url] = error  # not worth the time-outs of all the others
            raise

    def _address(self, mail: Mail, name: str) -> tuple[str, str]:
        """(URL, node): where brokers hand over an event for this one Trigger, on the node of its subscriber."""
        loaded = self._triggers.get(name)
        if loaded is None:
            raise SendError(f"no file defines Trigger {name} any more")
        trigger = loaded.object
        if (clause := stopped_by(trigger.spec, mail.letter.attributes)) is not None:
            raise SendError(f"Trigger {name} takes no such event: {clause.message}")
        hop = f"{trigger.broker_id}/{trigger.name}"
        here = Here(mail.node, self._lab.host(mail.node), self._lab.settings.broker_port)
        target = resolve(trigger.spec.subscriber, trigger.namespace, here, self._lab.constellation, hop)
        if target.node is not None:
            return str(target.url), target.node
        return f"http://{here.host}:{here.broker_port}/{hop}", mail.node
