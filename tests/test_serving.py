"""The image's command: what a role means, what gunicorn is told, and each role as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from libskylark.config import NodeSettings
from libskylark.errors import SettingError
from libskylark.event import TICK_TYPE
from libskylark.lab.process import SERVICE_APPS, ProcessSpec
from libskylark.lab.readiness import wait_until_ready
from libskylark.logs import LogSettings
from libskylark.serving import ServingSettings, find_role, gunicorn_settings, serving
from tests.conftest import ROOT, RedisNode, free_port

FUNCTIONS = ROOT / "functions"


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """A project's functions: two of its own, and a node-info."""
    for name in ("count", "write_data", "node_info"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "function.py").write_text("app = None\n")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("role", "name", "app", "folder", "worker", "port"),
    [
        ("elect", "elect", SERVICE_APPS["elect"], None, "gthread", 8081),
        ("node-info", "node-info", "function:app", "node_info", "gthread", 8080),
        ("node_info", "node-info", "function:app", "node_info", "gthread", 8080),
        ("broker", "broker", SERVICE_APPS["broker"], None, "asgi", 8090),
        ("count", "count", "function:app", "count", "gthread", 9000),
        ("write-data", "write-data", "function:app", "write_data", "gthread", 9000),
        ("write_data", "write-data", "function:app", "write_data", "gthread", 9000),
    ],
)
def test_a_role_is_a_service_or_a_function(
    functions: Path, role: str, name: str, app: str, folder: str | None, worker: str, port: int
) -> None:
    found = find_role(role, functions, NodeSettings())
    directory = functions / folder if folder else Path.cwd()
    assert (found.role, found.app, found.directory) == (name, app, directory)
    assert (found.worker_class, found.port) == (worker, port)


def test_a_role_may_be_a_folder(functions: Path, tmp_path: Path) -> None:
    assert find_role(str(functions / "count"), tmp_path / "elsewhere", NodeSettings()).directory == functions / "count"


def test_the_port_of_a_service_is_its_setting(functions: Path) -> None:
    node = NodeSettings(elect_port=1081, node_info_port=1080, broker_port=1090)
    assert [find_role(role, functions, node).port for role in ("node-info", "elect", "broker")] == [1080, 1081, 1090]


@pytest.mark.parametrize("role", ["cuont", "data", "", ".", "/", "../count"])
def test_what_is_no_role_is_named_beside_what_there_is(functions: Path, role: str) -> None:
    with pytest.raises(SettingError) as caught:
        find_role(role, functions, NodeSettings())
    assert f"setting role: found {role!r}, expected node-info, elect, broker, a folder" in str(caught.value)
    assert str(caught.value).endswith("count, node_info, write_data")


def test_a_folder_without_functions_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"{tmp_path}: none there"):
        find_role("count", tmp_path, NodeSettings())


def settings_of(functions: Path, role: str = "count", **environment: str) -> dict[str, Any]:
    application = serving([role], {"SKYLARK_FUNCTIONS": str(functions), **environment})
    return {name: setting.get() for name, setting in application.cfg.settings.items()}


def test_gunicorn_is_told_to_serve_with_one_worker_and_to_write_to_no_disk(functions: Path) -> None:
    told = settings_of(functions)
    assert told["bind"] == ["0.0.0.0:9000"]
    assert (told["workers"], told["threads"], told["worker_class"]) == (1, 4, "gthread")
    assert (told["timeout"], told["graceful_timeout"], told["keepalive"]) == (60, 25, 120)
    assert told["control_socket_disable"] is True
    assert told["worker_tmp_dir"] == ("/dev/shm" if Path("/dev/shm").is_dir() else None)
    assert (told["loglevel"], told["proc_name"]) == ("info", "count")


def test_the_environment_says_otherwise(functions: Path) -> None:
    told = settings_of(
        functions,
        PORT="8012",
        SKYLARK_BIND_HOST="::",
        SKYLARK_THREADS="2",
        SKYLARK_GRACE="1m",
        SKYLARK_WORKER_TIMEOUT="2m",
        SKYLARK_LOG_LEVEL="warning",
    )
    assert told["bind"] == ["[::]:8012"]
    assert [told[n] for n in ("threads", "graceful_timeout", "timeout", "loglevel")] == [2, 60, 120, "warning"]


def test_the_broker_is_served_on_one_loop(functions: Path) -> None:
    told = settings_of(functions, "broker", SKYLARK_THREADS="8")
    assert (told["worker_class"], told["threads"], told["asgi_loop"]) == ("asgi", 1, "uvloop")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"), ("PORT", "70000"), ("PORT", "http"), ("SKYLARK_THREADS", "0"), ("SKYLARK_THREADS", "65"),
        ("SKYLARK_GRACE", "soon"), ("SKYLARK_LOG_LEVEL", "loud"), ("NODE_NAME", "a b"), ("SKYLARK_REDIS_PORT", "x"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(functions: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"setting {name}: found '?{value}"):
        settings_of(functions, **{name: value})


def test_settings_have_a_default_for_everything() -> None:
    served = find_role("alarm", FUNCTIONS, NodeSettings())
    assert gunicorn_settings(served, ServingSettings(), LogSettings())["bind"] == "0.0.0.0:9000"


# Real processes

Start = Callable[..., str]


@pytest.fixture
def start(redis_node: RedisNode, tmp_path: Path) -> Iterator[Start]:
    """`start("alarm", NAME="value")`: the URL where the role now answers /ready."""
    with ExitStack() as stack:

        def run(role: str, **environment: str) -> str:
            port, log = free_port("127.0.0.1"), tmp_path / f"{role}.log"
            process = stack.enter_context(popen(role, log, redis_node, PORT=str(port), **environment))
            stack.callback(os.killpg, process.pid, signal.SIGKILL)  # tests/deployment has them stop in good order
            spec = ProcessSpec(role, "", "function", "127.0.0.1", port, tmp_path, log, app="function:app")
            said = wait_until_ready(spec, time.monotonic() + 60, lambda: process.poll() is not None)
            assert not said, f"{said}\n{log.read_text()}"
            return spec.url

        yield run


def popen(role: str, log: Path, redis_node: RedisNode, **environment: str) -> subprocess.Popen[bytes]:
    full = {
        **os.environ,
        "NODE_NAME": "pi5u1",
        "LOCAL_NODE_HOST": redis_node.host,
        "SKYLARK_REDIS_PORT": str(redis_node.port),
        "SKYLARK_BIND_HOST": "127.0.0.1",
        "SKYLARK_FUNCTIONS": str(FUNCTIONS),
        "SKYLARK_CONSTELLATION": str(ROOT / "deployment/constellation.yaml"),
        "SKYLARK_OBJECTS": str(ROOT / "brokers/default.yaml"),
        **environment,
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "libskylark.serving", role],
            env=full,
            stdout=output,
            stderr=output,
            process_group=0,
        )


@pytest.mark.parametrize("role", [*SERVICE_APPS, "camera", "preprocess", "detect", "alarm", "client"])
def test_every_role_becomes_ready(start: Start, role: str) -> None:
    assert requests.get(f"{start(role)}/ready", timeout=10).status_code == 200


def test_a_function_is_served_with_its_own_folder_and_takes_an_event(start: Start) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/t", "ce-type": TICK_TYPE}
    answer = requests.post(start("alarm"), b'{"hotspots": []}', headers=headers, timeout=10)
    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("role", "environment", "code", "words"),
    [
        ("alarmm", {}, 2, "setting role: found 'alarmm'"),
        ("alarm", {"SKYLARK_TICK": "0s"}, 2, "setting SKYLARK_TICK: found '0s'"),
        ("node-info", {"SKYLARK_CONSTELLATION": ""}, 4, "setting SKYLARK_CONSTELLATION: found ''"),
        ("camera", {"SKYLARK_CAMERA_IMAGES": "/nowhere"}, 4, "setting SKYLARK_CAMERA_IMAGES: found '/nowhere'"),
    ],
)
def test_a_process_that_cannot_serve_ends_and_says_why_without_a_stack(
    redis_node: RedisNode, tmp_path: Path, role: str, environment: dict[str, str], code: int, words: str
) -> None:
    log = tmp_path / "log"
    with popen(role, log, redis_node, PORT=str(free_port("127.0.0.1")), **environment) as process:
        assert process.wait(60) == code
    said = log.read_text()
    assert words in said
    assert "Traceback" not in said
