"""Bundled: the state of several functions as one bundle, read in one request and stored in another."""

from __future__ import annotations

from collections.abc import MutableMapping

from flask import Response

from libskylark import BadInput, Function
from libskylark.bench import storing

State = MutableMapping[str, bytes]

app = Function("bundled", emits="dev.skylark.state.bundled")
storing.answer_problems(app)


@app.handler
def hand_on(state: State) -> dict[str, int]:
    """Look at the state of every function; what a handler leaves of it goes on to the next function, in one bundle."""
    sizes = {name: len(value) for name, value in state.items()}  # one request brings them all
    if not sizes:
        raise BadInput("the event brings no state; write-data's /bundled makes some")
    return sizes


@app.get("/get-and-set")
def get_and_set() -> Response:
    """Read the bundle under ?key= and store it under another key; tells the ms that either took, as `12<TAB>7`."""
    return storing.get_and_set(app, hand_on)
