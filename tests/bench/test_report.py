"""The report: goals weighed, charts and page made from small results, and the tables of the docs as the results say."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest
from click.testing import CliRunner

from libskylark.bench.report import charts, markdown, page
from libskylark.bench.report.experiments import EXPERIMENTS, sections
from libskylark.bench.report.section import Experiment, Goal, Section, number, percent, with_interval
from libskylark.bench.results import Results, Setting
from libskylark.cli.bench import bench
from libskylark.cli.bench_report import QUICK, run_all
from libskylark.cli.main import cli
from libskylark.cli.options import results_option
from libskylark.errors import ConfigError, DocumentError, LabError

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks/results"
DOCUMENT = ROOT / "docs/experiments.md"
MOVED = {"precopy_bytes": 11, "delta_bytes": 4, "unwritable_ms": 23.5, "baseline_unwritable_ms": 47.0}
MOVED |= {"round_trip_ms": 20.0, "delta_ms": 0.5, "writes": 100, "writes_lost": 0}


def run(policy: str, size_mb: float, time_ms: float, pinned: bool = True, **other: Any) -> dict[str, Any]:
    return {
        "policy": policy,
        "pinned": pinned,
        "size_mb": size_mb,
        "time_ms": time_ms,
        "ci_ms": [time_ms * 0.9, time_ms * 1.1],
        "coverage": 0.9375,
        "runs": 5,
        "failed": 0,
        "limit_ms": size_mb * 100 if pinned else 0.0,
        "objective_ms": 100.0,
        "hand_overs": 15,
        "read_ms": 1.5,
        "write_ms": 2.5,
        "local_availability": 0.8,
        "hops": 1,
        "bytes": 3_000_000,
        "violations_predicted": 0,
        "violations_measured": 0,
        **other,
    }


def crowd(policy: str, per_s: float, workflows: int = 50) -> dict[str, Any]:
    return {
        "policy": policy,
        "workflows": workflows,
        "per_s": per_s,
        "ci_per_s": [per_s, per_s + 1],
        "coverage": 0.75,
        "p50_ms": 5,
        "p95_ms": 9,
        "failed": 0,
    }


def cell(place: str, saving_percent: float, depth: int = 5, size_mb: float = 1) -> dict[str, Any]:
    return {
        "place": place,
        "depth": depth,
        "size_mb": size_mb,
        "runs": 24 if place == "local" else 6,
        "single_ms": 100,
        "bundled_ms": 100 - saving_percent,
        "ci_single_ms": [90, 110],
        "ci_bundled_ms": [60, 70],
        "saving_percent": saving_percent,
        "ci_saving_percent": [saving_percent - 5, saving_percent + 5],
    }


SAMPLE = {"nodes": 10, "recompute_ms": [1, 2, 3], "answer_us": [2, 2], "http_ms": [2], "peak_mib": 0.5}


def link(kind: str, load: str = "idle", **figures: Any) -> dict[str, Any]:
    return {"kind": kind, "load": load, **figures}


FIGURES: dict[str, Any] = {
    "workflow": {"rows": [run(policy, mb, mb * ms) for policy, ms in (("skylark", 110), ("stateless", 400),
                                                                     ("original", 200)) for mb in (1, 5)]},
    "workflow-line": {"rows": [run("skylark", 5, 550), run("original", 5, 540)], "scheduling": "rr"},
    "throughput": {"rows": [crowd("skylark", 9.0), crowd("stateless", 6.0), crowd("stateless", 5.0, 5)], "size_mb": 2},
    "fusion": {"rows": [cell("local", -3.0), cell("remote", 31.5), cell("remote", 2, depth=1)],
               "link": {"latency_ms": 60, "jitter_ms": 30, "bandwidth_mbps": 90}},
    "overhead": {"runs": 12, "calls": 300, "rows": [
        {"kind": "<bare> Flask", "call_us": 40, "ci_call_us": [39, 42], "http_us": 400, "ci_http_us": [390, 420],
         "http_cpu_us": 90, "rss_mib": 30, "added_us": None, "added_http_us": None, "added_mib": None}]},
    "election": {"sizes": {"10": {"recompute_ms": 0.3, "answer_us": 4, "http_ms": 1, "peak_mib": 0.02},
                           "10000": {"recompute_ms": 31, "answer_us": 9.5, "http_ms": 1, "peak_mib": 14}}},
    "handover": {"runs": 3, "sizes": {"1000": MOVED}},
    "faults": {"faults": 60, "frames_sent": 9, "frames_decided": 9, "lost": 0, "memory_updates_lost": 0,
               "double_owned": 0, "duplicates_applied": 0, "dead_letters": 0, "handovers": 4, "unrecovered": [],
               "recovery_ms": {"elect": {"count": 2, "median": 900.0, "max": 1000.0}}, "cuts_in_phase": {},
               "cuts_meant": {}},
    "broker": {"runs": [{"concurrency": 64, "events_per_s": 5100, "p50_ms": 14, "p99_ms": 21, "cpu_us_per_event": 222}],
               "paced": {"rate": 200, "p50_ms": 0.8, "p99_ms": 6.5}, "rss_mib": 65, "lost": 0,
               "by_triggers": {"1": 230, "1000": 255}},
    "links": {"goals": {"latency_error_ms": 1.0, "rate_error_percent": 5.0}, "runs": 3, "ceiling_mbps": 400, "rows": [
        link("latency", asked_ms=10, measured_ms=10.4, error_ms=0.4, p99_ms=11, round_trip_ms=21, set_up_ms=41,
             direct_ms=0.1, met=True),
        link("latency", "loaded", asked_ms=10, measured_ms=11.4, error_ms=1.4, p99_ms=15, round_trip_ms=23,
             set_up_ms=44, direct_ms=0.5, met=False),
        link("jitter", latency_ms=10, asked_ms=9, spread_ms=8, true_spread_ms=8.1, least_ms=10, most_ms=19),
        link("rate", flows=4, asked_mbps=40, measured_mbps=39, error_percent=-2.5, share_error_percent=-4.1,
             cpu_ms_per_mb=3, met=True),
        link("ceiling", asked_mbps=400, measured_mbps=399, error_percent=-0.2, cpu_ms_per_mb=2, met=True)]},
    "start": {"runs": 3, "roles": {"elect": {"ready_ms": 553, "slowest_ms": 600, "rss_mib": 60}}},
}  # fmt: skip
COMMANDS = {"workflow-line": "skylark bench workflow --constellation benchmarks/line/constellation.yaml"}
FEW = ("fusion", "faults", "start")
NOT_MET = {"workflow-line": 1, "election": 1, "broker": 1, "links": 1}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    results = Results(tmp_path / "results")
    for name, figures in FIGURES.items():
        results.write(name, figures, Setting.now(1))
    return results


def section(name: str, figures: dict[str, Any]) -> Section:
    experiment = next(experiment for experiment in EXPERIMENTS if experiment.name == name)
    return experiment.section(experiment.model.model_validate(figures))


def goal(name: str, figures: dict[str, Any], text: str) -> Goal:
    return next(goal for goal in section(name, figures).goals if text in goal.text)


def test_every_experiment_has_a_table_and_a_chart_and_a_command(results: Results) -> None:
    shown = sections(results)
    assert [section.name for section in shown] == list(FIGURES)
    for shown_section in shown:
        assert all(len(row) == len(table.head) for table in shown_section.tables for row in table.rows)
        assert shown_section.charts
        assert shown_section.command == COMMANDS.get(shown_section.name, f"skylark bench {shown_section.name}")
        verdicts = [goal.verdict for goal in shown_section.goals]
        assert verdicts.count("not met") == NOT_MET.get(shown_section.name, 0), shown_section.goals


@pytest.mark.parametrize(
    ("ours_ms", "best", "every"),
    [((30.0, 50.0), "met", "met"), ((34.5, 50.0), "not met", "met"), ((33.5, 50.5), "met", "not met")],
)
def test_a_workflow_is_weighed_against_stateless(ours_ms: tuple[float, float], best: str, every: str) -> None:
    rows = [run("stateless", 1, 100.0), run("stateless", 5, 100.0)]
    rows += [run("skylark", 1, ours_ms[0]), run("skylark", 5, ours_ms[1])]
    rows += [run("skylark", 0.5, 99.0), run("stateless", 0.5, 100.0)]  # below the size from which the goal holds
    assert goal("workflow", {"rows": rows}, "at the best size").verdict == best
    assert goal("workflow", {"rows": rows}, "at every size from 1 MB").verdict == every


def test_a_workflow_is_weighed_against_the_original_the_limit_and_its_objective() -> None:
    rows = [run("skylark", 5, 575.0, local_availability=0.78), run("original", 5, 575.0)]
    rows += [run("skylark", 1, 500.0), run("original", 1, 800.0)]
    assert goal("workflow", {"rows": rows}, "faster than the original").met is False
    assert goal("workflow", {"rows": rows}, "physical limit").figure == "1.15 at 5 MB, the most"
    assert goal("workflow", {"rows": rows}, "physical limit").met
    assert goal("workflow", {"rows": rows}, "reads local").figure == "79 % (least: 78 %)"
    waited = [run("skylark", 5, 575.0, local_at_once=0.25), run("skylark", 1, 500.0, local_at_once=0.5)]
    told = goal("workflow", {"rows": waited}, "reads local").figure
    assert told == "80 % (least: 80 %; there when the event came: 37.5 %)"
    unkept = "0 of 15 at 1 MB; the limit itself is above the objective at 5 MB"
    assert goal("workflow", {"rows": rows}, "violation") == Goal(
        goal("workflow", {"rows": rows}, "violation").text, unkept, True
    )
    rows[0] |= {"time_ms": 576.0, "violations_measured": 2, "local_availability": 0.77}
    rows[2] |= {"violations_measured": 1}
    assert goal("workflow", {"rows": rows}, "physical limit").met is False
    assert goal("workflow", {"rows": rows}, "reads local").met is False
    assert goal("workflow", {"rows": rows}, "violation").met is False


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("workflow", [run("stateless", 5, 100.0), run("original", 5, 100.0)]),
        ("throughput", [crowd("skylark", 9.0), crowd("stateless", 5.0, 5)]),
        ("fusion", [cell("local", 50.0), cell("remote", 50.0, depth=4)]),
    ],
)
def test_what_a_run_left_out_is_neither_met_nor_missed(name: str, rows: list[dict[str, Any]]) -> None:
    goals = section(name, {**FIGURES[name], "rows": rows}).goals
    assert {goal.verdict for goal in goals} == {"not measured"}


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("throughput", {"rows": [crowd("skylark", 8.9), crowd("stateless", 6.0)]}, "50 at once"),
        ("fusion", {"rows": [cell("local", 30.0), cell("remote", 19.9)]}, "over the link"),
        ("handover", {"sizes": {"1000": {**MOVED, "unwritable_ms": 40.5}}}, "two round trips"),
        ("handover", {"sizes": {"1000": {**MOVED, "writes_lost": 1}}}, "acknowledged"),
        ("faults", {"faults": 49}, "at least 50"),
        ("faults", {"double_owned": 1}, "two owners"),
        ("faults", {"unrecovered": ["elect a-elect"]}, "within a minute"),
        ("broker", {"by_triggers": {"1": 230, "1000": 270}}, "1,000 Triggers"),
        ("broker", {"lost": 1}, "accepted event"),
    ],
)
def test_a_goal_that_is_missed_is_said_to_be(name: str, change: dict[str, Any], text: str) -> None:
    assert goal(name, FIGURES[name], text).met
    assert goal(name, {**FIGURES[name], **change}, text).met is False


def test_chains_that_did_not_end_are_shown() -> None:
    unended = {"policy": "skylark", "pinned": True, "size_mb": 50, "runs": 5, "failed": 5}
    rows = [run("skylark", 5, 100.0), unended, run("random", 5, 100.0, failed=1)]
    shown = section("workflow", {"rows": rows})
    assert [row[:3] for row in shown.tables[0].rows] == [
        ["5", "skylark", "100 (90 to 110)"],
        ["5", "random", "100 (90 to 110)"],
        ["50", "skylark", "none of 5 ended"],
    ]
    assert goal("workflow", {"rows": rows}, "every chain ends").figure == "5 of 10 did not"
    no_times = {**crowd("skylark", 0.0), "p50_ms": None, "p95_ms": None, "failed": 50}
    rates = section("throughput", {"rows": [no_times, crowd("skylark", 2.0, 5)], "size_mb": 2})
    assert rates.tables[0].rows[1][3:] == ["-", "-", "50"]
    assert [list(series.xs) for chart in rates.charts for series in chart.panels[0].series] == [[50, 5], [5]]


def test_a_chain_that_may_run_anywhere_has_no_limit() -> None:
    shown = section("workflow", {"rows": [run("skylark", 5, 100.0, pinned=False)]})
    assert shown.tables[0].rows[0][3] == "-"
    assert not any("physical limit from" in goal.text for goal in shown.goals)
    charts.draw(shown.charts[0])


def test_links_are_weighed_idle_and_loaded() -> None:
    told = [(goal.text, goal.figure, goal.verdict) for goal in section("links", FIGURES["links"]).goals]
    assert told == [
        ("beside nothing: latency within 1 ms at 10 ms", "+0.400 ms at 10 ms", "met"),
        (
            "beside nothing: rates within 5 %, each flow its share",
            "-2.5 %, worst share -4.1 % (4 at 40 Mbit/s, the furthest off)",
            "met",
        ),
        ("beside busy processes: latency within 1 ms at 10 ms", "+1.400 ms at 10 ms", "not met"),
        ("beside busy processes: rates within 5 %, each flow its share", "", "not measured"),
    ]


def test_captions_say_of_how_many_runs_and_what_their_intervals_are_worth() -> None:
    captions = [table.caption for table in section("fusion", FIGURES["fusion"]).tables]
    assert "medians of 24 runs, in brackets intervals of at least 97.7 %; savings" in captions[0]
    assert "medians of 6 runs, in brackets intervals of at least 96.9 %" in captions[1]
    assert section("handover", FIGURES["handover"]).tables[0].caption == (
        "Medians of 3 runs, in brackets intervals of at least 75 %"
    )


def test_ranges_of_rounds_are_shown_where_they_were_kept() -> None:
    spread = {name: [1, 90_000] for name in ("events_per_s", "p50_ms", "p99_ms", "cpu_us_per_event")}
    loads = section("broker", {**FIGURES["broker"], "ranges": [{"concurrency": 64, **spread}]})
    assert loads.tables[0].rows[0][1] == "5,100 (1 to 90,000)"
    assert loads.tables[0].caption == "Events of 1 KiB, in brackets the range of the rounds"
    elected = {"10": {"recompute_ms": [0.2, 0.4], "answer_us": [3, 5], "http_ms": [1, 2]}}
    sizes = section("election", {**FIGURES["election"], "ranges": elected}).tables[0]
    assert sizes.rows[0][:4] == ["10", "0.300 (0.200 to 0.400)", "4 (3 to 5)", "1 (1 to 2)"]
    assert sizes.rows[1][1] == "31"


def test_numbers_are_told_with_three_figures() -> None:
    assert [number(value) for value in (1234.5, 99.96, 12.34, 1.234, 0.1234, 7, None)] == [
        "1,234", "100.0", "12.3", "1.23", "0.123", "7", "-"]  # fmt: skip
    assert with_interval(20, (19.5, 1000)) == "20 (19.5 to 1,000)"
    assert with_interval(20, None) == with_interval(20, (20, 20)) == "20"
    assert [percent(share) for share in (1, 0.79, 0.9876)] == ["100 %", "79 %", "98.8 %"]


def test_charts_are_the_same_for_the_same_figures_and_name_their_axes(results: Results) -> None:
    shown = {section.name: section for section in sections(results)}
    for chart in (shown["workflow"].charts[0], shown["overhead"].charts[0]):
        drawing = charts.draw(chart)
        assert drawing == charts.draw(chart)
        words = "".join(ET.fromstring(drawing.card).itertext())
        for panel in chart.panels:
            assert panel.x_label in words
            assert all(label in words for label in panel.bars or [series.label for series in panel.series])
        assert "prefers-color-scheme:dark" in drawing.adaptive
        ET.fromstring(drawing.adaptive)


def test_a_user_s_own_settings_of_matplotlib_change_nothing(results: Results) -> None:
    import matplotlib as mpl

    chart = sections(results)[0].charts[0]
    before = charts.draw(chart)
    with mpl.rc_context({"lines.linewidth": 9, "svg.fonttype": "path"}):
        assert charts.draw(chart) == before
        assert mpl.rcParams["lines.linewidth"] == 9


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named_with_the_extra(
    missing: str, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"found no {missing}.*skylark-functions\[bench\]"):
        page.write(sections(results)[-1:], results, tmp_path / "report.html")


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.sources += [given["src"] or ""] if "src" in given else []
        self.links += [given["href"] or ""] if "href" in given else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself(results: Results, tmp_path: Path) -> None:
    out = tmp_path / "pages/report.html"
    page.write(sections(results), results, out)
    text = out.read_text()
    shown = Page(text)
    assert len(shown.sources) == sum(len(section.charts) for section in sections(results))
    for source in shown.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"|<!DOCTYPE[^>]+>|<metadata>.*?</metadata>', "",
                                    base64.b64decode(content).decode(), flags=re.DOTALL)  # fmt: skip
    assert not re.search(r"url\(|@import|<script|<link", text)
    files = [link for link in shown.links if not link.startswith("#")]
    assert len(files) == len(FIGURES)
    assert all((out.parent / link).is_file() for link in files)
    assert "<bare> Flask" in shown.text  # a name with characters that HTML has a use for


def test_an_experiment_without_results_is_shown_as_such(results: Results) -> None:
    results.path("start").unlink()
    missing = sections(results)[-1]
    assert "No results yet." in Page(page.render([missing], {}, ".")).text
    assert "No results are kept yet." in markdown.results(missing)


def test_results_are_put_between_the_marks_of_a_document(results: Results, tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    marks = "".join(f"<!-- results: {name} -->\nold\n<!-- end of results -->\nafter {name}\n" for name in FIGURES)
    document.write_text(f"# Title\n{marks}")
    assert markdown.update(document, sections(results))
    text = document.read_text()
    assert "old" not in text
    assert "| 5 | skylark | 550 (495 to 605) | 1.10 |" in text
    assert "| **not met** |" in text
    assert "after start\n" in text
    assert not markdown.update(document, sections(results))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "\n<!-- results: walk -->\n<!-- end of results -->\n",
            r"doc\.md:2: found results of 'walk', expected one of work",
        ),
        ("nothing\n", r"doc\.md: found no <!-- results: workflow -->"),
    ],
)
def test_marks_that_do_not_fit_are_named(results: Results, tmp_path: Path, text: str, fault: str) -> None:
    document = tmp_path / "doc.md"
    document.write_text(text)
    with pytest.raises(DocumentError, match=fault):
        markdown.update(document, sections(results))
    assert document.read_text() == text


def test_the_documents_say_what_the_results_say(tmp_path: Path) -> None:
    """Else: skylark bench report --markdown docs/experiments.md."""
    copy = tmp_path / "experiments.md"
    shutil.copy(DOCUMENT, copy)
    markdown.update(copy, sections(Results(KEPT)))
    assert copy.read_text() == DOCUMENT.read_text()


def test_where_a_goal_is_not_met_the_documents_say_why() -> None:
    parts = DOCUMENT.read_text().split("<!-- results: ")[1:]
    reasons = {part.split(" ", 1)[0]: part.split("<!-- end of results -->")[1].split("\n## ")[0] for part in parts}
    for kept in sections(Results(KEPT)):
        assert all(goal.met is not False for goal in kept.goals) or reasons[kept.name].strip(), kept.name


def test_the_kept_page_shows_the_kept_results() -> None:
    """Else: skylark bench report. Charts are left out: another release of matplotlib may draw them differently."""
    kept = sections(Results(KEPT))
    shown = Page((KEPT / "report.html").read_text())
    for kept_section in kept:
        words = [goal.figure for goal in kept_section.goals]
        words += [cell for table in kept_section.tables for row in table.rows for cell in row]
        assert all(word in shown.text for word in words), kept_section.name
        assert all((KEPT / f"{chart.name}.svg").is_file() for chart in kept_section.charts)


def test_the_plots_of_the_readme_are_there() -> None:
    plots = re.findall(r"!\[.+?\]\((benchmarks/results/[\w-]+\.svg)\)", (ROOT / "README.md").read_text())
    assert plots
    assert all((ROOT / plot).is_file() for plot in plots)


def test_the_command_writes_page_charts_and_document(results: Results, tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text("".join(f"<!-- results: {name} -->\n<!-- end of results -->\n" for name in FIGURES))
    command = ["bench", "report", "--results", str(results.directory), "--markdown", str(document)]
    ran = CliRunner().invoke(cli, command)
    assert ran.exit_code == 0, ran.output
    assert re.search(r"election +goals: 1 met, 1 not met\n", ran.output)
    assert (results.directory / "report.html").is_file()
    assert (results.directory / "workflow.svg").is_file()
    assert "| skylark |" in document.read_text()


def test_without_any_results_the_command_says_how_to_get_some(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["bench", "report", "--results", str(tmp_path)])
    assert isinstance(ran.exception, LabError)
    assert "found no results" in str(ran.exception)


def group(ran: list[tuple[str, bool]]) -> click.Group:
    """`bench all` beside stand-ins of the experiments, of which some fail."""

    def stand_in(name: str) -> click.Command:
        @click.command(name)
        @results_option
        @click.option("--quick", is_flag=True)
        @click.pass_context
        def command(context: click.Context, results: Path | None, quick: bool) -> None:
            ran.append((name, quick))
            assert results is not None
            Results(results).write(name, FIGURES[name], Setting.now())
            if name == "fusion":
                raise LabError("something did not start")
            context.exit(1 if name == "faults" else 0)

        return command

    return click.Group("bench", commands=[run_all, *map(stand_in, FEW)])


@pytest.mark.parametrize("quick", [False, True])
def test_all_experiments_run_whatever_fails_and_are_shown(
    tmp_path: Path, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [experiment for experiment in EXPERIMENTS if experiment.name in FEW]
    monkeypatch.setattr("libskylark.bench.report.experiments.EXPERIMENTS", few)
    ran: list[tuple[str, bool]] = []
    asked = CliRunner().invoke(group(ran), ["all", "--results", str(tmp_path), *(["--quick"] if quick else [])])
    assert ran == [(name, quick) for name in FEW]
    assert (tmp_path / "report.html").is_file()
    assert isinstance(asked.exception, LabError)
    assert str(asked.exception) == "failed: fusion, faults"
    assert "something did not start" in asked.output


def test_kept_figures_are_those_that_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libskylark.bench.election.measure", lambda **_: (FIGURES["election"], [SAMPLE]))
    ran = CliRunner().invoke(cli, ["bench", "election", "--json", "--results", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    kept = json.loads((tmp_path / "election.json").read_text())
    assert kept.pop("setting")["seed"] == 7
    assert kept.pop("ranges") == {"10": {name: [2.0, 2.0] for name in ("recompute_ms", "answer_us", "http_ms")}}
    assert Results(tmp_path).read_raw("election") == [SAMPLE]
    assert kept == json.loads(ran.stdout) == FIGURES["election"]
    assert (tmp_path / "election.csv").read_text().splitlines()[1].startswith("10,")


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_of_the_report_can_be_run_and_kept(experiment: Experiment[Any]) -> None:
    with click.Context(bench) as context:
        command = bench.get_command(context, experiment.subcommand)
    assert command is not None
    options = {option.name for option in command.params}
    assert {"results", *experiment.options} <= options
    assert "quick" in options or QUICK.get(experiment.name, {}).keys() <= options


def test_command_and_scheduling_are_shown_as_they_were(results: Results) -> None:
    setting = Setting.now(1)
    results.write("start", FIGURES["start"], setting.model_copy(update={"scheduling": "nice 5", "command": "a <b>"}))
    results.write("workflow-line", FIGURES["workflow-line"], setting.model_copy(update={"scheduling": None}))
    shown = {section.name: section for section in sections(results)}
    for name, scheduling in (("start", "nice 5"), ("workflow-line", "rr"), ("fusion", setting.scheduling)):
        told = shown[name].setting
        assert told is not None
        assert f", scheduling {scheduling}" in told.summary
        assert told.summary in Page(page.render([shown[name]], drawn(shown[name]), ".")).text
        assert f"{told.summary}.\n`{told.command}`\n" in markdown.results(shown[name])
    assert "a <b>" in Page(page.render([shown["start"]], drawn(shown["start"]), ".")).text


def drawn(shown: Section) -> dict[str, charts.Drawing]:
    return {chart.name: charts.draw(chart) for chart in shown.charts}
