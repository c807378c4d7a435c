"""How a command ends that cannot write, or is interrupted: exit code and words."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "command",
    [
        ["render", "--project", str(ROOT), "--out", "{file}/out"],
        ["bench", "election", "--results", "{file}/out"],
    ],
)
def test_what_cannot_be_written_is_one_message_with_the_next_step(run: Run, tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    code, out, err = run(*(part.format(file=file) for part in command))
    assert (code, out) == (2, "")
    assert err.startswith(f"skylark: no use of {file}")
    assert "; name another file or folder" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("fault", "code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_an_interruption_exits_with_130(
    run: Run, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException], code: int
) -> None:
    def stop(*_: object) -> None:
        raise fault

    monkeypatch.setattr("libskylark.cli.demo.read_project", stop)
    assert run("demo", "--no-dashboard", "--project", str(ROOT))[0] == code


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children heed Ctrl-C: they would inherit that it is ignored, as a shell's background jobs ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_command_that_waits(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text("{}")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/default/default"
        command = [sys.executable, "-m", "libskylark.cli", "send", str(file), "--type", "order", "--broker", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            server.settimeout(60)
            with closing(server.accept()[0]):
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
