"""The demo as a newcomer runs it, also while processes are killed under it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from libskylark.lab.record import LabRecord
from tests.e2e.harness import Command, copy_project, small_project, some_network


def run_demo(project: Path, *arguments: str) -> Command:
    return Command("demo", "--tick", "1s", "--json", "--network", some_network(), *arguments, directory=project)


def result(command: Command) -> dict[str, Any]:
    code = command.wait(150)
    assert code == 0, "\n".join(command.lines)
    report: dict[str, Any] = json.loads(command.output)
    return report


def test_the_demo_loses_nothing_while_functions_are_killed(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    command = run_demo(project, "--frames", "8")
    command.wait_for(lambda line: "captured a frame" in line, count=2)
    record = LabRecord(project).read()
    assert record is not None
    killed = [p["pid"] for p in record["processes"] if p["name"].endswith(("-detect", "-preprocess", "-alarm"))]
    assert len(killed) == 15
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    report = result(command)

    assert (report["frames_sent"], report["frames_decided"]) == (8, 8)
    assert (report["frames_lost"], report["duplicate_decisions"]) == (0, 0)
    assert report["restarts"] >= 15
    assert report["nodes"] == 9
    assert report["ticks"] >= 8
    assert len(set(report["successors"])) >= 3
    assert report["detection"]["precision"] >= 0.9
    assert report["detection"]["recall"] >= 0.9
    assert report["alarms"] > 0
    assert report["reads"]["inline"] >= 8
    # An event that follows its memory to another node reads its state from the one that it left.
    assert report["reads"]["local"] + report["reads"]["remote"] >= 16
    assert report["orphans"] == 0


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_the_demo_watches_a_folder_of_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        picture = np.full((3, 64, 64), 40, dtype=np.uint8)
        picture[0, 20:24, 20 + number : 24 + number] = 250
        with rasterio.open(
            images / f"{number}.png", "w", driver="PNG", dtype="uint8", count=3, width=64, height=64
        ) as f:
            f.write(picture)
    (images / "broken.tif").write_bytes(b"II*\x00 cut short")

    report = result(run_demo(small_project(tmp_path / "project"), "--frames", "3", "--images", str(images)))

    assert (report["frames_sent"], report["frames_refused"]) == (2, 1)
    assert (report["frames_decided"], report["frames_lost"]) == (2, 0)
    assert report["alarms"] == 1
    assert report["orphans"] == 0
    assert report["detection"] == {"precision": None, "recall": None, "synthetic": False}
