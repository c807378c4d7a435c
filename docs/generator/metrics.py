"""The page about metrics: those that the library's code makes, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from docs.generator.places import ROOT

#: Kinds of metric, and what is added to their names when they are exposed.
_METRICS: Final = {"Counter": "_total", "Gauge": "", "Histogram": "_bucket, _sum, _count", "Summary": "_sum, _count"}


def metrics_page() -> str:
    """Every metric that the library defines."""
    lines = [
        "# Metrics\n",
        "In Prometheus' format at `GET /metrics` of each process; beside these, `process_...` tells of the process",
        "itself: processor time, memory, open files, start.\n",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, (kind, meaning, labels) in metrics().items():
        suffixes = [f"`{name}{suffix.strip()}`" for suffix in _METRICS[kind].split(",")]
        told = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| {', '.join(suffixes)} | {kind.lower()} | {told} | {meaning} |")
    return "\n".join(lines) + "\n"


def metrics() -> dict[str, tuple[str, str, list[str]]]:
    """Name to (kind, help, labels), of every metric that is made anywhere in the library."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for path in sorted((ROOT / "libskylark").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.ImportFrom) and node.module == "prometheus_client" for node in ast.walk(tree)):
            continue
        for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = _lists(scope)
            for call in ast.walk(scope):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _METRICS:
                    name, meaning, *others = call.args
                    labels = _labels(others[0], names) if others else []
                    found[ast.literal_eval(name)] = (call.func.id, ast.literal_eval(meaning), labels)
    return dict(sorted(found.items()))


def _lists(scope: ast.FunctionDef) -> dict[str, list[str]]:
    """What names stand for that are bound to texts: the items of a list, the keys of a dict."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            items = getattr(node.value, "keys", None) or getattr(node.value, "elts", None) or []
            texts = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            if texts:
                found[node.targets[0].id] = texts
    return found


def _labels(node: ast.expr, names: Mapping[str, list[str]]) -> list[str]:
    """The labels that an argument of a metric stands for: `["a", *labels]`, `list(labels)`, `labels`."""
    if isinstance(node, ast.List | ast.Tuple):
        return [label for item in node.elts for label in _labels(item, names)]
    if isinstance(node, ast.Starred):
        return _labels(node.value, names)
    if isinstance(node, ast.Call):
        return _labels(node.args[0], names)
    return [str(node.value)] if isinstance(node, ast.Constant) else names[ast.unparse(node)]
