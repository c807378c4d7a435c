"""One delivery over HTTP: a request, the answer and what it means, and attempts until one holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from yarl import URL

from libskylark.errors import InvalidEvent
from libskylark.event import Event, from_message, to_http
from libskylark.eventing.answer_room import AnswerRoom
from libskylark.eventing.connections import Connections
from libskylark.eventing.entry import NewEntry
from libskylark.eventing.outbound import Outbound
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.wordings import one_line, told_by

# Of what a failure says: as much as a dead letter sink is told. It is held until the last attempt.
_SAID_BYTES: Final = 1024

# 404: the subscriber may just be starting. Other 4xx say that the event itself is refused.
_RETRIED: Final = frozenset({404, 408, 409, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt; status 0 where no answer came, `reason` empty where it succeeded.

    `body` is the beginning of what a failure says.
    """

    status: int
    reason: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reply: Event | None = None
    retryable: bool = False
    retry_after_s: float | None = None

    @property
    def failed(self) -> bool:
        return bool(self.reason)


@dataclass(frozen=True, slots=True)
class Result:
    """The last answer of all attempts, and the event itself where it goes to another node instead."""

    answer: Answer
    attempts: int
    expired: bool = False
    readdressed: NewEntry | None = None
    superseded: bool = False  # before the next attempt, as it is to be another one


@dataclass(frozen=True, slots=True)
class Request:
    """An event on its way to one address."""

    url: URL
    headers: Mapping[str, str]
    body: bytes


def write_request(url: URL, event: Event, passed: Mapping[str, str], namespace: str, structured: bool) -> Request:
    """The request for an event; raises ValueError for data that is no JSON where `structured` JSON is asked for."""
    headers, body = to_http(event, structured)
    return Request(url, {**passed, **headers, "Prefer": "reply", "Kn-Namespace": namespace}, body)


class Courier:
    """Posts events; keeps its connections. Use as an asynchronous context manager.

    Answers are read while there is room for them in `answers`.
    """

    def __init__(self, reply_limit_bytes: int = 10 * 1024 * 1024, outbound: Outbound | None = None) -> None:
        self.answers = AnswerRoom()
        self._connections = Connections(reply_limit_bytes, outbound, self.answers)

    async def __aenter__(self) -> Courier:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connections.close()

    async def post(self, request: Request, timeout_s: float, takes_reply: bool = True) -> Answer:
        """One attempt; a failure is an Answer too, never an exception."""
        try:
            response = await self._connections.post(request.url, request.headers, request.body, timeout_s, takes_reply)
        except TimeoutError as error:
            error.__traceback__ = None  # it leads back to itself by frames that hold the body
            return Answer(0, f"no answer within {timeout_s:g} s", retryable=True)
        except OSError as error:
            error.__traceback__ = None
            return Answer(0, str(error) or type(error).__name__, retryable=True)
        except ValueError as error:  # a header that cannot be written will not do better the next time
            return Answer(0, f"the event cannot be sent: {error}")
        return read_answer(response.status, response.headers, response.body, takes_reply)

    async def deliver(
        self,
        write: Callable[[], Awaitable[Request]],
        policy: RetryPolicy,
        pause: Callable[[float], Awaitable[None]],
        on_failure: Callable[[Answer], None],
        remaining_s: Callable[[], float],
        elsewhere: Callable[[Answer], Awaitable[NewEntry | None]] | None = None,
        superseded: Callable[[], bool] = lambda: False,
        attempts: int = 0,
        takes_reply: bool = True,
    ) -> Result:
        """Attempts until one succeeds, all are used up, or the event would expire before the next.

        `write` gives the request of each attempt, or raises ValueError; nothing of it is held during a `pause`.
        `elsewhere` is asked after every failure that may be tried again; with what it gives, this delivery is over.
        `superseded` is asked before every further attempt, and before the pause: where it says so, the caller goes
        on, with as many `attempts` as the Result has.
        """
        while True:
            try:
                request = await write()
            except ValueError as error:
                return Result(Answer(0, f"the event cannot be written: {error}"), attempts)
            answer = await self.post(request, policy.timeout_s, takes_reply)
            del request
            attempts += 1
            if not answer.failed:
                return Result(answer, attempts)
            on_failure(answer)
            asks = elsewhere if answer.retryable and remaining_s() > 0 else None
            if asks is not None and (readdressed := await asks(answer)) is not None:
                return Result(answer, attempts, readdressed=readdressed)
            if not answer.retryable or attempts > policy.retries:
                return Result(answer, attempts)
            delay_s = policy.delay_s(attempts, answer.retry_after_s)
            if delay_s >= remaining_s():
                return Result(answer, attempts, expired=True)
            if not superseded():
                await pause(delay_s)
            if superseded():
                return Result(answer, attempts, superseded=True)


def read_answer(status: int, headers: list[tuple[str, str]], body: bytes | None, takes_reply: bool = True) -> Answer:
    """What an answer means: 2xx is good if it is empty or a CloudEvent; anything else is a failure.

    `body` is None where it is too large. Where nobody `takes_reply`, every 2xx is good, and what it says is dropped.
    """
    named = dict(headers)
    if 200 <= status < 300 and not takes_reply:
        return Answer(status, headers=named)
    if body is None:
        return Answer(502, f"answered {status} with a body that is too large", headers=named, retryable=True)
    if 200 <= status < 300:
        return _read_success(status, named, body)
    retryable = status in _RETRIED or status >= 500
    retry_after_s = _retry_after_s(named.get("retry-after"))
    reason = f"answered {status}{told_by(named, body)}"
    return Answer(status, reason, body[:_SAID_BYTES], named, None, retryable, retry_after_s)


def _read_success(status: int, named: Mapping[str, str], body: bytes) -> Answer:
    is_event = "ce-specversion" in named or named.get("content-type", "").startswith("application/cloudevents")
    if not is_event:
        if not body:
            return Answer(status, headers=named)
        reason = f"answered {status} with a body that is no CloudEvent{told_by(named, body)}"
        return Answer(502, reason, body[:_SAID_BYTES], named, retryable=True)
    try:
        return Answer(status, headers=named, reply=from_message(named, body))
    except InvalidEvent as error:
        reason = one_line(f"answered {status} with a faulty CloudEvent: {error}")
        return Answer(502, reason, body[:_SAID_BYTES], named, retryable=True)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number of seconds or a date; None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError):  # the last two for what the parser did not think of
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
