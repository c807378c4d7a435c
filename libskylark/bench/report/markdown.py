"""Goals and tables of the report within a Markdown document: between marks, so that the text around them stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from libskylark.bench.report.section import Section, Table
from libskylark.errors import DocumentError, Fault

_END: Final = "<!-- end of results -->"
_PART: Final = re.compile(
    rf"^(?P<mark><!-- results: (?P<name>[\w-]+) -->\n)(?P<body>.*?)^{re.escape(_END)}$", re.MULTILINE | re.DOTALL
)
_NOTHING: Final = "No results are kept yet."


def update(document: Path, sections: Sequence[Section]) -> bool:
    """Puts the results of each section between its marks, `<!-- results: NAME -->` and the end; whether it changed.

    Raises DocumentError where the document cannot be read, a mark names no experiment, or an experiment has no mark.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError([Fault(str(document), 0, "", f"cannot be read: {error.strerror}")]) from None
    parts = {section.name: results(section) for section in sections}
    found = [(match["name"], text.count("\n", 0, match.start()) + 1) for match in _PART.finditer(text)]
    faults = [
        Fault(str(document), line, "", f"found results of {name!r}, expected one of {', '.join(parts)}")
        for name, line in found
        if name not in parts
    ]
    for name in parts.keys() - {name for name, _ in found}:
        faults.append(Fault(str(document), 0, "", f"found no <!-- results: {name} --> with {_END}"))
    if faults:
        raise DocumentError(faults)
    updated = _PART.sub(lambda match: f"{match['mark']}{parts[match['name']]}{_END}", text)
    if updated != text:
        document.write_text(updated, encoding="utf-8")
    return updated != text


def results(section: Section) -> str:
    """Goals and tables; a sentence where there are none."""
    if not section.tables:
        return f"\n{_NOTHING}\n\n"
    goals = [[goal.text, goal.figure, f"**{goal.verdict}**"] for goal in section.goals]
    tables = [Table("", ["goal", "measured", "verdict"], goals)] if goals else []
    blocks = [_table(table) for table in [*tables, *section.tables]]
    blocks.append(_made(section))
    return "\n" + "\n".join(blocks) + "\n"


def _made(section: Section) -> str:
    """How, when and where the results were made."""
    if section.setting is None:
        return "The setting of this run was not kept.\n"
    return f"{section.setting.summary}.\n`{section.setting.command}`\n"


def _table(table: Table) -> str:
    lines = [f"{table.caption}:", ""] if table.caption else []
    lines += [_line(table.head), _line(["---"] * len(table.head)), *map(_line, table.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
