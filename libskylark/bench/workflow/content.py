"""The state that a stage makes: seeded bytes, so that whoever reads them can tell that they are the right ones."""

from __future__ import annotations

import numpy as np

from libskylark.bench.workflow.chain import Task
from libskylark.errors import BadInput

_LEVELS = 8
_COMPARED_BYTES = 64


def make(task: Task, stage: int) -> bytes:
    """`task.size_bytes` bytes, others for each seed and stage."""
    return _make(task, stage, task.size_bytes)


def check(task: Task, stage: int, state: bytes) -> None:
    """Raises BadInput where this is not what the stage made, by its size and its first bytes.

    The rest is covered by the codec's checksum where we store, and by Redis where the original does.
    """
    expected = _make(task, stage, min(task.size_bytes, _COMPARED_BYTES))
    if len(state) != task.size_bytes or state[: len(expected)] != expected:
        found = f"{len(state)} bytes that begin with {state[:8].hex()}"
        raise BadInput(f"found {found}, expected the {task.size_bytes} bytes that stage {stage} made")


def _make(task: Task, stage: int, size_bytes: int) -> bytes:
    random = np.random.default_rng([task.seed, stage])
    if task.kind == "noise":
        return random.bytes(size_bytes)
    return random.integers(_LEVELS, size=size_bytes, dtype=np.uint8).tobytes()
