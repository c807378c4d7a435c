"""deployment/monitoring: every query is PromQL, and asks for metrics and labels that processes really have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from libskylark.eventing.metrics import BrokerMetrics, Queue
from libskylark.jobs import MoveRecord
from libskylark.metrics import FunctionMetrics, exposition, new_registry
from libskylark.policy import Candidate, Decision, Ladder, Terms
from libskylark.services.metrics import ElectMetrics, node_info_metrics
from libskylark.timing import Timing
from tests.conftest import ROOT

FOLDER = ROOT / "deployment" / "monitoring"
DASHBOARD: Any = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
ALERTS: Any = YAML(typ="safe").load(FOLDER / "alerts.yaml")
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
# What Prometheus itself adds to what it scrapes; its own series `up` says whether it could.
ADDED = {"instance", "job"}


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Names of series with their labels, as all kinds of processes expose them once something has happened."""
    function = FunctionMetrics("count", "here")
    function.count_event("handled")
    function.count_reads({"local": 1})
    function.note_timings([Timing("state", 1.0, "local", "here", 10)])
    registry = new_registry()
    elect = ElectMetrics(registry, "here")
    record = MoveRecord(
        "memory", "k", "a", "b", "handover", 1, 1, 1, 1.0, 1.0, None, None, (), 1.0, {"unwritable_ms": 1.0}
    )
    elect.note_move(record)
    elect.count_handover("switched")
    candidate = Candidate("a", "127.0.0.1", 0.0, None, 0)
    elect.count_election(Decision("skylark", candidate, 0.0, Terms(0, 0.0, ()), Ladder((candidate,)), passed=1))
    elect.look(1, 0, {"b": 1})
    node_info_metrics(registry, "here")("/health")
    broker = BrokerMetrics("here")
    broker.count_event("default/default", "t", "accepted")
    broker.count_refusal(429)
    broker.note_delivery("default/t", "t", "delivered", 1, 0.1)
    texts = (function.text(), exposition(registry), broker.text(1, 1, {"default/t": Queue(1, 1)}))
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", b"\n".join(texts).decode(), re.MULTILINE):
        found[name] = set(re.findall(r'(\w+)="', labels))
    return {**found, "up": ADDED}


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL), with Grafana's variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']!r}", target["expr"].replace("$__rate_interval", "1m").replace("$node", ".*")
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


def parts(node: Any) -> Iterator[Any]:
    """A parsed expression and all that it consists of."""
    yield node
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for part in [*inner, *getattr(node, "args", ())]:
        if part is not None:
            yield from parts(part)


@pytest.mark.parametrize(("where", "query"), [*queries()])
def test_a_query_asks_for_what_there_is(exposed: dict[str, set[str]], where: str, query: str) -> None:
    found = [*parts(promql_parser.parse(query))]
    selectors = [part for part in found if isinstance(part, promql_parser.VectorSelector)]
    assert selectors, where
    labels = set[str]()
    for selector in selectors:
        assert selector.name in exposed, f"{where}: no process has {selector.name}"
        labels |= exposed[selector.name]
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= exposed[selector.name], f"{where}: {selector.name} has no {asked - exposed[selector.name]}"
    for part in found:
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            assert set(part.modifier.labels) <= labels | ADDED, where


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert(exposed: dict[str, set[str]]) -> None:
    asked = " ".join(query for _, query in queries())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed if name.startswith("skylark_")}
    assert {family for family in families if family not in asked} == set()


def test_an_alert_tells_what_and_where() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 10
    for rule in RULES:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        told = " ".join(rule["annotations"].values())
        labels = set(re.findall(r"\$labels\.(\w+)", told))
        aggregated = [part for part in parts(promql_parser.parse(rule["expr"])) if hasattr(part, "modifier")]
        kept = {label for part in aggregated if part.modifier for label in getattr(part.modifier, "labels", ())}
        assert labels <= kept | {"node"}, rule["alert"]
        assert labels, rule["alert"]


def test_panels_lie_side_by_side() -> None:
    taken = set[tuple[int, int]]()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_reads_the_rules_and_the_labs_targets() -> None:
    scraping: Any = YAML(typ="safe").load(FOLDER / "prometheus.yaml")
    assert [(FOLDER / name).is_file() for name in scraping["rule_files"]] == [True]
    jobs = {job["job_name"]: job for job in scraping["scrape_configs"]}
    assert jobs["skylark-lab"]["file_sd_configs"][0]["files"] == ["skylark-targets.json"]


def test_a_process_of_any_job_that_is_down_is_an_alert() -> None:
    scraping: Any = YAML(typ="safe").load(FOLDER / "prometheus.yaml")
    (down,) = (rule["expr"] for rule in RULES if re.search(r"\bup\b.*== 0", rule["expr"]))
    asked = re.search(r'job=~"([^"]+)"', down)
    assert asked is not None
    assert all(re.fullmatch(asked[1], job["job_name"]) for job in scraping["scrape_configs"])
