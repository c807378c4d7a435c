"""When is a process ready: a Redis that answers PING, a service that answers GET /ready."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import Final

from libskylark.lab.process import ProcessSpec

#: Between two questions. Rarely needed: a service's socket is open before the service is, so the
#: first question waits in the socket's queue and is answered in the moment when the service can.
RETRY_S: Final = 0.03
_SLOWEST_ANSWER_S: Final = 5.0


def wait_until_ready(spec: ProcessSpec, deadline_s: float, abandoned: Callable[[], bool]) -> str:
    """Wait until the process is ready; returns "" then, else what it answered last.

    `deadline_s` is a time of time.monotonic(); `abandoned` says that there is no more point in waiting.
    """
    ask = _ask_redis if spec.role == "redis" else _ask_service
    said = "nothing was heard of it"
    while (left_s := deadline_s - time.monotonic()) > 0 and not abandoned():
        try:
            said = ask(spec, min(left_s, _SLOWEST_ANSWER_S))
        except TimeoutError:
            said = f"no answer from {spec.url}"
        except (OSError, http.client.HTTPException) as error:
            said = f"{spec.url}: {error}"
        if not said:
            return ""
        time.sleep(min(RETRY_S, max(0.0, deadline_s - time.monotonic())))
    return said


def _ask_service(spec: ProcessSpec, timeout_s: float) -> str:
    connection = http.client.HTTPConnection(spec.host, spec.port, timeout=timeout_s)
    try:
        connection.request("GET", "/ready", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(2048).decode(errors="replace").strip()
    finally:
        connection.close()
    # A plain application without /ready is served as well: that it answers is all there is to know.
    if answer.status == 200 or (answer.status == 404 and spec.role == "function"):
        return ""
    return f"GET {spec.url}/ready answered {answer.status} {body}".rstrip()


def _ask_redis(spec: ProcessSpec, timeout_s: float) -> str:
    password = spec.environment.get("SKYLARK_REDIS_PASSWORD")
    commands = [["AUTH", password]] if password else []
    with socket.create_connection((spec.host, spec.port), timeout=timeout_s) as connection:
        for command in [*commands, ["PING"]]:
            connection.sendall(_as_resp(command))
            answer = b""
            while not answer.endswith(b"\r\n"):
                if not (data := connection.recv(1024)):
                    return f"{spec.url} closed the connection"
                answer += data
            if answer.startswith(b"-"):
                return f"{spec.url}: {answer[1:].decode(errors='replace').strip()}"
    return ""


def _as_resp(command: list[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
