"""The room that answers share: how much is held at once, whose turn it is, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.answer_room import AnswerRoom

WAIT_S = 5.0
LIMIT_BYTES = 100

Answer = asyncio.Future[int]


class Readers:
    """Answers that ask for room, those that may be read, and what is owed of them."""

    def __init__(self) -> None:
        self.room = AnswerRoom(LIMIT_BYTES)
        self.reading: list[Answer] = []
        self.owed: list[asyncio.Future[None]] = []

    async def ask(self, place: str, size_bytes: int) -> Answer:
        """An answer; as many bytes as its result says are owed by whoever waits for it."""
        answer: Answer = asyncio.get_running_loop().create_future()

        async def take() -> None:
            if owed_bytes := await answer:
                self.owe(owed_bytes)

        self.taking = asyncio.create_task(take())
        await asyncio.sleep(0)
        self.room.ask(answer, place, size_bytes, lambda: self.reading.append(answer))
        return answer

    def owe(self, size_bytes: int) -> None:
        self.owed.append(asyncio.get_running_loop().create_future())
        self.room.owe(self.owed[-1], size_bytes)

    async def end(self, answer: Answer, owed_bytes: int = 0) -> None:
        self.reading.remove(answer)
        answer.set_result(owed_bytes)
        await settle()

    async def store(self) -> None:
        self.owed.pop(0).set_result(None)
        await settle()


def run(test: Callable[[Readers], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(Readers()), WAIT_S)

    asyncio.run(limited())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_answers_are_let_in_as_they_fit_and_in_their_order() -> None:
    async def check(readers: Readers) -> None:
        a, b, c, d = [await readers.ask(name, 40) for name in "abcd"]
        e = await readers.ask("e", 10)
        assert readers.reading == [a, b], "a small one does not pass the next one"
        await readers.end(b)
        assert readers.reading == [a, c]
        await readers.end(a)
        assert readers.reading == [c, d, e]
        for answer in (c, d, e):
            await readers.end(answer)
        assert readers.room.held_bytes == 0

    run(check)


def test_one_gets_in_however_large_when_nothing_else_is_read() -> None:
    async def check(readers: Readers) -> None:
        small, large, behind = [await readers.ask(name, size) for name, size in (("a", 1), ("b", 1000), ("c", 1))]
        assert readers.reading == [small]
        await readers.end(small)
        assert readers.reading == [large]
        await readers.end(large)
        assert readers.reading == [behind]

    run(check)


def test_a_place_that_stalls_leaves_room_to_others() -> None:
    async def check(readers: Readers) -> None:
        stalling = [await readers.ask("stalls", 20) for _ in range(10)]
        assert readers.reading == stalling[:3]
        other = await readers.ask("other", 20)
        assert readers.reading == [*stalling[:3], other]

    run(check)


def test_what_is_given_up_while_it_waits_or_is_read_is_passed_over() -> None:
    async def check(readers: Readers) -> None:
        first, second, third = [await readers.ask(name, 100) for name in "abc"]
        second.cancel()
        first.cancel()
        await settle()
        assert readers.reading == [first, third]
        third.cancel()
        await settle()
        assert readers.room.held_bytes == 0

    run(check)


def test_what_is_owed_of_an_answer_counts_without_a_gap() -> None:
    async def check(readers: Readers) -> None:
        first, second, third = [await readers.ask(name, size) for name, size in (("a", 60), ("b", 30), ("c", 30))]
        assert readers.reading == [first, second]
        await readers.end(first, owed_bytes=60)
        assert readers.reading == [second]
        assert readers.room.held_bytes == 90
        await readers.store()
        assert readers.reading == [second, third]

    run(check)


def test_answers_that_are_not_stored_yet_are_bounded() -> None:
    async def check(readers: Readers) -> None:
        for _ in range(3):
            readers.owe(50)
        assert readers.room.owes_too_much
        waiting = asyncio.create_task(readers.room.drained())
        answer = await readers.ask("a", 10)
        await settle()
        assert not waiting.done()
        assert not readers.reading
        await readers.store()
        await waiting
        assert readers.reading == [answer]

    run(check)


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(1, 120), st.sampled_from(["", "ends", "owes", "breaks off", "stores"])
    ),
    max_size=30,
)


@given(STEPS)
def test_no_more_is_held_than_the_limit_and_one_answer_and_all_get_their_turn(
    steps: list[tuple[str, int, str]],
) -> None:
    async def check(readers: Readers) -> None:
        sizes: dict[Answer, int] = {}
        for place, size_bytes, what in steps:
            sizes[await readers.ask(place, size_bytes)] = size_bytes
            first = readers.reading[0] if readers.reading else None
            if what == "stores" and readers.owed:
                await readers.store()
            elif what == "breaks off" and first is not None:
                readers.reading.remove(first)
                first.cancel()
                await settle()
            elif what in ("ends", "owes") and first is not None:
                await readers.end(first, sizes[first] if what == "owes" else 0)
            assert readers.room.held_bytes <= LIMIT_BYTES + max(sizes.values())
        while readers.reading or readers.owed:
            if readers.reading:
                await readers.end(readers.reading[0])
            else:
                await readers.store()
        assert all(answer.done() for answer in sizes), "somebody waits for ever"
        assert readers.room.held_bytes == 0

    run(check)
