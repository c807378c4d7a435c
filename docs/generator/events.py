"""The page about events: extension attributes from the comments of their constants, types from the constellation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.generator.places import ROOT
from libskylark.constellation import read_constellation

#: Files whose constants with a `#:` comment are attributes of events.
ATTRIBUTES: Final = ("libskylark/event.py", "libskylark/eventing/entry.py")
_TYPE: Final = re.compile(r"dev\.[a-z]+(\.[a-z]+)+")


def events_page() -> str:
    """The extension attributes, and the types of events of the fire-watch chain."""
    lines = [
        "# Events\n",
        "Events are [CloudEvents 1.0](https://github.com/cloudevents/spec), over HTTP in binary or structured",
        "mode. Beside the attributes of the specification (`id`, `source`, `type`, `subject`, `time`,",
        "`datacontenttype`) these have a meaning here. You may set `partitionkey`, `correlationid`, `expirytime`,",
        "`skylarknode` and `traceparent`; the others are Skylark's own.\n",
        "| attribute | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in attributes().items()]
    lines += ["", "## Types\n"]
    lines += [
        "Those of this repository's chain, from `deployment/constellation.yaml`, and those of the library itself.\n"
    ]
    lines += ["| type | from | taken by |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {source} | {takers} |" for name, (source, takers) in _event_types().items()]
    return "\n".join(lines) + "\n"


def attributes() -> dict[str, str]:
    """Extension attributes and their meaning, in the order of the code."""
    found = [pair for name in ATTRIBUTES for pair in _documented_constants(ROOT / name)]
    return {value: meaning for value, meaning in found if not _TYPE.fullmatch(value)}


def _documented_constants(path: Path) -> Iterator[tuple[str, str]]:
    """(value, comment) of every text constant below a `#:` comment."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.parse(text).body:
        value = node.value if isinstance(node, ast.AnnAssign | ast.Assign) else None
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            continue
        first = node.lineno - 1
        while first > 0 and lines[first - 1].startswith("#: "):
            first -= 1
        if comment := " ".join(line.removeprefix("#: ") for line in lines[first : node.lineno - 1]):
            yield value.value, comment


def _event_types() -> dict[str, tuple[str, str]]:
    """(from, taken by) of every type of event."""
    functions = read_constellation(ROOT / "deployment/constellation.yaml").functions
    types = {
        "dev.knative.sources.ping": "PingSource `tick`",
        "dev.skylark.successor.elected": "elect, at each tick",
        "dev.skylark.handover.completed": "elect, after each handover of memory",
        "dev.skylark.frame.requested": 'whoever wants a frame; the data is `{"frame": N}`',
        **{function.emits: name for name, function in functions.items() if function.emits},
    }
    takers = {name: [who for who, function in functions.items() if name in function.consumes] for name in types}
    takers["dev.knative.sources.ping"].append("elect")
    return {name: (source, ", ".join(takers[name]) or "whoever has a Trigger for it") for name, source in types.items()}
