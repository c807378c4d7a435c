from __future__ import annotations

import os
import stat
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from libskylark.errors import LabError
from libskylark.lab.process import ProcessSpec
from libskylark.lab.supervisor import Supervisor

from .conftest import SpecMaker, wait_for

READY_TIMEOUT_S = 20.0


def _get(spec: ProcessSpec) -> list[str]:
    with urllib.request.urlopen(f"{spec.url}/ready", timeout=10) as answer:
        text: str = answer.read().decode()
    return text.split(" ")


def test_all_kinds_start_become_ready_and_leave_nothing(
    tmp_path: Path, host: str, flask_service: SpecMaker, asgi_broker: ProcessSpec, redis: ProcessSpec
) -> None:
    function = flask_service(f"n1-{host.replace('.', '-')}")  # a name that no other run has
    specs = [redis, asgi_broker, function]
    ready: list[str] = []
    with Supervisor(tmp_path / "run", preload=()) as supervisor:
        supervisor.start(specs)
        supervisor.wait_ready(specs, READY_TIMEOUT_S, lambda spec: ready.append(spec.name))
        assert sorted(ready) == sorted(spec.name for spec in specs)
        statuses = supervisor.processes()
        assert all(0 < status.pss_mib <= status.rss_mib for status in statuses)
        assert sum(status.pss_mib for status in statuses) < supervisor.memory_mib()
        pids = [status.pid for status in statuses]
        assert psutil.Process(pids[-1]).cmdline()[0].rstrip() == f"gunicorn: worker [{function.name}]"
        assert stat.S_IMODE(function.log.stat().st_mode) == 0o600
    assert not any(psutil.pid_exists(pid) for pid in pids)
    names = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not any(function.host in name or f"[{function.name}]" in name for name in names)
    # Nothing was written into the function's folder, not even bytecode.
    assert [path.name for path in function.directory.iterdir()] == ["function.py"]


def test_a_process_has_exactly_the_environment_and_folder_of_its_spec(
    supervisor: Supervisor, flask_service: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = flask_service()
    supervisor.start([spec])
    supervisor.wait_ready([spec], READY_TIMEOUT_S)
    _, _, greeting, has_home, folder = _get(spec)
    assert (greeting, has_home, folder) == (spec.name, "False", str(spec.directory))


def test_processes_are_out_of_reach_of_the_terminal(supervisor: Supervisor, flask_service: SpecMaker) -> None:
    spec = flask_service()
    supervisor.start([spec])
    supervisor.wait_ready([spec], READY_TIMEOUT_S)
    pid = supervisor.processes()[0].pid
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


def test_roles_stop_in_order(
    supervisor: Supervisor, flask_service: SpecMaker, asgi_broker: ProcessSpec, redis: ProcessSpec
) -> None:
    specs = [redis, flask_service(), asgi_broker]
    supervisor.start(specs)
    supervisor.wait_ready(specs, READY_TIMEOUT_S)
    supervisor.stop()
    for spec in reversed(specs):
        assert wait_for(supervisor, "stopped", spec.name).code == 0
    assert supervisor.processes() == []


def test_a_process_can_be_killed_at_once_and_started_again(supervisor: Supervisor, flask_service: SpecMaker) -> None:
    spec = flask_service()
    supervisor.start([spec])
    supervisor.wait_ready([spec], READY_TIMEOUT_S)
    supervisor.stop_names([spec.name], grace_s=0)
    assert wait_for(supervisor, "stopped", spec.name).code == -9
    with pytest.raises(OSError, match=r"[Rr]efused"):
        _get(spec)
    supervisor.start([spec])
    supervisor.wait_ready([spec], READY_TIMEOUT_S)
    assert _get(spec)[2] == spec.name


def test_a_program_gets_its_password_without_showing_it(supervisor: Supervisor, redis: ProcessSpec) -> None:
    supervisor.start([redis])
    supervisor.wait_ready([redis], READY_TIMEOUT_S)
    listing = subprocess.run(["ps", "-e", "-ww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert redis.host in listing
    assert "pass" not in " ".join(line for line in listing.splitlines() if redis.host in line)
    written = {path.name for path in redis.directory.iterdir()}
    assert written == {"redis.conf", "appendonlydir"}


def test_a_module_that_cannot_be_imported_early_is_only_noted(tmp_path: Path, flask_service: SpecMaker) -> None:
    spec = flask_service()
    with Supervisor(tmp_path / "run", preload=["no_such_module", "flask"]) as supervisor:
        supervisor.start([spec])
        supervisor.wait_ready([spec], READY_TIMEOUT_S)
        assert supervisor.log.read_text().count("cannot import no_such_module: ModuleNotFoundError") == 1


def test_what_was_never_started_is_never_ready(supervisor: Supervisor, flask_service: SpecMaker) -> None:
    with pytest.raises(LabError, match=r"n1-tiny.*was never started"):
        supervisor.wait_ready([flask_service()], 1.0)
