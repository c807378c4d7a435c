"""Bodies that are lent to deliveries: how many at once, to whom, in which order, and that all of it comes back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.event import Event
from libskylark.eventing.entry import Content, Entry
from libskylark.eventing.loans import Loan, Loans

WAIT_S = 5.0
LIMIT_BYTES = 100


class Library:
    """Loans of bodies that can be read, with what was read."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.loans = Loans(self._read, LIMIT_BYTES)

    async def _read(self, entry: Entry) -> Content | None:
        self.reads.append(entry.id)
        await asyncio.sleep(0)
        return Content(Event.new("t", "/s", id=entry.id), 255, 0.0, {}, "chain")

    def ask(self, trigger: str, name: str, size_bytes: int, copied: bool = False) -> asyncio.Task[Loan]:
        entry = Entry(name, None, {trigger}, None, size_bytes)
        return asyncio.create_task(self.loans.borrow(trigger, entry, copied))


def run(test: Callable[[Library], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(Library()), WAIT_S)

    asyncio.run(limited())


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_trigger_gets_no_more_than_it_leaves_to_others() -> None:
    async def check(library: Library) -> None:
        asked = [library.ask("slow", str(n), 20) for n in range(4)]
        await settle()
        assert [task.done() for task in asked] == [True, True, False, False]
        assert library.loans.held_bytes == 40
        other = await library.ask("other", "x", 50)
        assert other.content is not None
        assert other.content.event.id == "x"
        library.loans.give_back(await asked[0])
        await settle()
        assert not asked[2].done(), "the other one's is in its way"
        library.loans.give_back(other)
        assert (await asked[2]).content is not None
        assert not asked[3].done()

    run(check)


def test_every_trigger_gets_one_however_much_is_lent_and_however_large() -> None:
    async def check(library: Library) -> None:
        loans = [await library.ask(trigger, trigger, 1000) for trigger in "abc"]
        more = library.ask("a", "small", 1)
        await settle()
        assert not more.done()
        for loan in loans[1:]:
            library.loans.give_back(loan)
        await settle()
        assert not more.done()
        library.loans.give_back(loans[0])
        await more

    run(check)


def test_deliveries_of_one_event_share_its_body() -> None:
    async def check(library: Library) -> None:
        loans = await asyncio.gather(*(library.ask(trigger, "same", 60) for trigger in "abc"))
        assert library.reads == ["same"]
        assert library.loans.held_bytes == 60
        for loan in loans:
            assert library.loans.held_bytes == 60
            library.loans.give_back(loan)
        assert library.loans.held_bytes == 0
        await library.ask("a", "same", 60)
        assert library.reads == ["same", "same"]

    run(check)


def test_what_is_written_in_another_form_counts_and_a_resident_body_does_not() -> None:
    async def check(library: Library) -> None:
        content = Content(Event.new("t", "/s", id="1"), 255, 0.0, {}, "chain")
        loan = await library.loans.borrow("a", Entry("1", None, {"a"}, content, 30), True)
        assert loan.content is content
        assert library.loans.held_bytes == 40
        await library.ask("b", "2", 30, copied=True)
        assert library.loans.held_bytes == 110
        assert library.reads == ["2"]

    run(check)


def test_loans_of_a_trigger_come_in_order_and_one_that_is_given_up_is_passed_over() -> None:
    async def check(library: Library) -> None:
        first = await library.ask("a", "0", 40)
        large, small, last = (library.ask("a", *asked) for asked in (("large", 90), ("small", 5), ("last", 5)))
        await settle()
        assert not small.done(), "it would overtake the large one again and again"
        small.cancel()
        large.cancel()
        await settle()
        await last
        assert library.reads == ["0", "last"]
        library.loans.give_back(first)
        assert library.loans.held_bytes == 5

    run(check)


def test_a_loan_that_is_given_up_while_it_is_read_comes_back_and_the_others_keep_theirs() -> None:
    async def check(library: Library) -> None:
        given_up, kept = library.ask("a", "same", 60), library.ask("b", "same", 60)
        await asyncio.sleep(0)
        given_up.cancel()
        loan = await kept
        assert loan.content is not None
        library.loans.give_back(loan)
        alone = library.ask("a", "other", 60)
        await asyncio.sleep(0)
        alone.cancel()
        await settle()
        assert library.loans.held_bytes == 0

    run(check)


def test_a_body_that_cannot_be_read_is_not_lent() -> None:
    async def check(library: Library) -> None:
        async def fail(entry: Entry) -> Content | None:
            raise ValueError("unreadable")

        loans = Loans(fail, LIMIT_BYTES)
        with pytest.raises(ValueError, match="unreadable"):
            await loans.borrow("a", Entry("1", None, {"a"}, None, 10), False)
        assert loans.held_bytes == 0

    run(check)


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(1, 120), st.booleans(), st.booleans()),
    max_size=30,
)


@given(STEPS)
def test_no_more_is_held_than_the_limit_and_one_body_of_each_trigger(
    steps: list[tuple[str, int, int, bool, bool]],
) -> None:
    async def check(library: Library) -> None:
        tasks: list[asyncio.Task[Loan]] = []
        sizes: defaultdict[str, int] = defaultdict(int)
        for trigger, event, size_bytes, copied, ends in steps:
            tasks.append(library.ask(trigger, f"{event}:{size_bytes}", size_bytes, copied))
            sizes[trigger] = max(sizes[trigger], size_bytes + (size_bytes * 4 // 3 if copied else 0))
            await settle()
            assert library.loans.held_bytes <= LIMIT_BYTES + sum(sizes.values())
            if ends and (task := next((each for each in tasks if each.done()), None)) is not None:
                tasks.remove(task)
                library.loans.give_back(task.result())
        while tasks:
            await settle()
            done = [task for task in tasks if task.done()]
            assert done, "somebody waits for ever"
            for task in done:
                tasks.remove(task)
                library.loans.give_back(task.result())
        assert library.loans.held_bytes == 0

    run(check)
