"""Which nodes of a running lab answer: all are asked at once, and whoever waits for them is told so."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from rich.console import Console

from libskylark.errors import LabError, StoreUnavailable
from libskylark.store import Store

_QUIET_S: Final = 1.0  # nodes that answer do so in far less
_STEP: Final = "try again in a moment, and where it stays so, stop the lab and start it again"
_SETTINGS: Final = "SKYLARK_REDIS_PORT and SKYLARK_REDIS_PASSWORD must be here what they are for the lab"


def ask_all(
    stores: Mapping[str, Store], screen: Console, quiet_s: float = _QUIET_S
) -> tuple[dict[str, Store], dict[str, str]]:
    """(the stores of the nodes whose Redis answers, why each of the others does not, with the next step).

    That takes no longer than the stores' time-outs for a single node. In a terminal, `screen` says after `quiet_s`
    who is waited for.
    """
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for node, store in stores.items():
        # A daemon: Ctrl-C does not wait for what nobody answers.
        threading.Thread(target=_ask, args=(node, store, answers), daemon=True).start()
    told = _collect(list(stores), answers, screen, quiet_s)
    silent = {node: told[node] for node in stores if told[node]}
    return {node: store for node, store in stores.items() if node not in silent}, silent


def require_an_answer(answering: Mapping[str, Store], silent: Mapping[str, str]) -> None:
    """Raises LabError where no node's Redis answers, with what the first one says."""
    if silent and not answering:
        who = "no node's Redis answers" if len(silent) > 1 else "the node's Redis does not answer"
        raise LabError(f"{who}: {next(iter(silent.values()))}; {_SETTINGS}")


def _ask(node: str, store: Store, answers: queue.SimpleQueue[tuple[str, str]]) -> None:
    """Puts (node, why it does not answer) there; nothing for a reason where it does."""
    fault = f"Redis at {store.address} could not be asked"
    try:
        store.ping()
        fault = ""
    except StoreUnavailable as error:
        fault = f"{str(error).rstrip('.')}; {_STEP}"
    finally:
        answers.put((node, fault))


def _collect(
    nodes: list[str], answers: queue.SimpleQueue[tuple[str, str]], screen: Console, quiet_s: float
) -> dict[str, str]:
    told: dict[str, str] = {}
    loud_s = time.monotonic() + quiet_s
    with ExitStack() as stack:
        status = None
        while len(told) < len(nodes):
            try:
                node, fault = answers.get(timeout=None if status else max(0.0, loud_s - time.monotonic()))
                told[node] = fault
            except queue.Empty:
                status = stack.enter_context(screen.status(""))
            if status:
                status.update(f"waiting for the Redis of {', '.join(name for name in nodes if name not in told)}")
    return told
