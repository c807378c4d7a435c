"""Write data: stores noise of any size as state, for the functions single and bundled to work on."""

from __future__ import annotations

import random
from collections.abc import MutableMapping

from flask import Response

from libskylark import BadInput, Event, Function
from libskylark.bench import storing
from libskylark.services.queries import query_int

#: The most that one request may store, in KiB.
MOST_KIB = 64 * 1024

State = MutableMapping[str, bytes]

app = Function("write-data", emits="dev.skylark.state.written")
storing.answer_problems(app)


@app.handler
def write(event: Event, state: State) -> dict[str, int]:
    """Store fields of noise as JSON asks for: `{"kib": 100, "count": 3}` is three, `{"kib": 100}` one named data."""
    kib, count = sizes(event.json())
    names = ["data"] if count is None else [f"bundle-child-{number}" for number in range(1, count + 1)]
    noise = random.Random(event.id)  # the same where the event comes again
    for name in names:
        state[name] = noise.randbytes(kib * 1024)
    return dict.fromkeys(names, kib * 1024)


def sizes(wanted: object) -> tuple[int, int | None]:
    """KiB of each field, and how many fields; raises BadInput for what is not such, or too much."""
    kib, count = (wanted.get("kib"), wanted.get("count")) if isinstance(wanted, dict) else (None, None)
    if not isinstance(kib, int) or not isinstance(count, int | None):
        raise BadInput('expected JSON such as {"kib": 100, "count": 3}')
    times = 1 if count is None else count
    if kib < 1 or times < 1 or kib * times > MOST_KIB:
        raise BadInput(f"found {kib} KiB, {times} times, expected 1 to {MOST_KIB} KiB in all")
    return kib, count


@app.get("/single")
def single() -> Response:
    """Store ?size= KiB as the state of one function, at ?destination=; answers its key."""
    return storing.store(app, write, {"kib": query_int("size", 100)})


@app.get("/bundled")
def bundled() -> Response:
    """Store ?size= KiB for each of ?scount= functions as one bundle, at ?destination=; answers its key."""
    return storing.store(app, write, {"kib": query_int("size", 100), "count": query_int("scount", 1)})
