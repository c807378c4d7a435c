"""Single: the state of one function, read in one request and stored in another; what bundling is weighed against."""

from __future__ import annotations

from collections.abc import MutableMapping

from flask import Response

from libskylark import BadInput, Function
from libskylark.bench import storing

State = MutableMapping[str, bytes]

app = Function("single", emits="dev.skylark.state.single")
storing.answer_problems(app)


@app.handler
def hand_on(state: State) -> dict[str, int]:
    """Look at the state; what a handler leaves of it goes on to the next function."""
    if "data" not in state:
        raise BadInput("the state has no field data; write-data's /single makes one")
    return {"data": len(state["data"])}


@app.get("/get-and-set")
def get_and_set() -> Response:
    """Read the state under ?key= and store it under another key; tells the ms that either took, as `12<TAB>7`."""
    return storing.get_and_set(app, hand_on)
