"""When the fork server starts a process again, and when it gives up; the rest of it is in test_supervisor.py."""

from __future__ import annotations

import signal
import socket

import pytest

from libskylark.lab.child import FIRST_DELAY_S, LONGEST_DELAY_S, MOST_FAILED_STARTS, SETTLED_S, Child

from .conftest import SpecMaker


@pytest.fixture
def child(flask_service: SpecMaker) -> Child:
    return Child(flask_service())


def end(child: Child, code: int, lived_s: float = 0.0) -> tuple[str, float | None]:
    """Why there is no next start after a process that began at 100 s, or how long it is away."""
    child.begun(7, 100.0)
    reason = child.ended(code, 100.0 + lived_s)
    assert child.pid == 0
    return reason, None if child.restart_at_s is None else child.restart_at_s - 100.0 - lived_s


def test_ends_by_an_exit_code_before_it_ever_worked_are_too_many_at_the_third(child: Child) -> None:
    child.listen()
    child.spec.log.parent.mkdir(parents=True)
    child.spec.log.write_text("no such module\n")
    for _ in range(MOST_FAILED_STARTS - 1):
        assert end(child, 3)[0] == ""
    reason, restart = end(child, 3)
    assert reason.startswith("ended with code 3 at 3 starts in a row; ")
    assert reason.endswith("no such module")
    assert (restart, child.wanted, child.listener) == (None, False, None)


@pytest.mark.parametrize(("code", "worked"), [(-signal.SIGKILL, False), (1, True)])
def test_a_signal_or_an_end_after_it_has_worked_is_no_failed_start(child: Child, code: int, worked: bool) -> None:
    child.worked = worked
    delays = [end(child, code)[1] for _ in range(8)]
    assert delays == pytest.approx([min(FIRST_DELAY_S * 2**n, LONGEST_DELAY_S) for n in range(8)])


def test_one_that_had_settled_starts_at_once_again(child: Child) -> None:
    for _ in range(4):
        end(child, -signal.SIGKILL)
    assert end(child, 1, lived_s=SETTLED_S)[1] == pytest.approx(FIRST_DELAY_S)


def test_one_that_is_not_wanted_stays_away(child: Child) -> None:
    child.dismiss()
    assert end(child, 0) == ("", None)


def test_an_application_keeps_its_socket_and_a_program_only_tries_it(child: Child, flask_service: SpecMaker) -> None:
    child.listen()
    address = (child.spec.host, child.spec.port)
    with socket.create_connection(address, timeout=5.0):
        child.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5.0)
    program = Child(flask_service(app="", argv=("/bin/true",)))
    program.listen()
    assert program.listener is None
