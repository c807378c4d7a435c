"""One event to one broker over HTTP, and what its answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import requests
from requests.auth import AuthBase

from libskylark.config import NodeSettings
from libskylark.errors import BrokerUnavailable, SendError
from libskylark.event import Event, to_http

_TIMEOUT_S: Final = 10.0
_BUSY: Final = (429, 503)
_SYSTEM_ERROR: Final = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


def broker_url(host: str, port: int) -> str:
    """Where a node's broker takes events: the Broker `default` in the namespace `default`."""
    return f"http://{host}:{port}/default/default"


def own_broker_url(settings: NodeSettings) -> str:
    """Where a process of a node sends events: the sink that a cluster gives it, else the node's broker."""
    return settings.sink or broker_url(settings.host, settings.broker_port)


class Sender:
    """Posts events to the broker at `url` (with namespace and name) over connections that it keeps.

    `token` is what the broker demands, in clear.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        if token is not None:
            self._session.auth = _Bearer(token)  # as a mere header, a machine's .netrc would take its place

    def post(self, event: Event, passed: Mapping[str, str] | None = None) -> None:
        """Returns once the broker has stored the event; `passed` are headers that go on with it to its subscribers.

        Raises BrokerUnavailable for what may pass, SendError with the broker's own words where it refuses the event.
        """
        headers, body = to_http(event)
        try:
            response = self._session.post(
                self.url, data=body, headers={**(passed or {}), **headers}, timeout=_TIMEOUT_S
            )
        except requests.RequestException as error:
            raise BrokerUnavailable(f"{self.url} took no event: {reason_of(error)}") from None
        if response.status_code in _BUSY:
            raise BrokerUnavailable(f"{self.url} took no event: {response.status_code} {response.text.strip()}")
        if not response.ok:
            raise SendError(f"{self.url} refused the event with {response.status_code}: {_detail(response)}")


def reason_of(error: requests.RequestException) -> str:
    """Why a request had no answer, in the system's words where there are some, without a client's names around them."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    found = _SYSTEM_ERROR.search(str(error))
    return found[1].lower() if found else str(error)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _detail(response: requests.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:200]
