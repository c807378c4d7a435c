"""How pytest's workers share the tests: one runs the labs, one lab after another, and the others take files."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

#: Whose tests run whole labs, each of dozens of processes.
LABS: Final = (
    "tests/bench/test_faults.py",
    "tests/bench/test_workflow_lab.py",
    "tests/dashboard/",
    "tests/docs/",
    "tests/e2e/",
)


class LabsApart(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a file's tests at a time, so that they share their fixtures; the labs' all at once."""

    def _split_scope(self, nodeid: str) -> str:
        return "labs" if nodeid.startswith(LABS) else nodeid.partition("::")[0]
