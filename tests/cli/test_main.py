"""The command as users call it: exit codes, and faults in plain words."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import libskylark
from libskylark.cli.main import COMMANDS, cli
from tests.arrangements import function_py
from tests.cli.conftest import Run
from tests.conftest import ROOT, Write, free_port


def test_the_version_is_that_of_the_library(run: Run) -> None:
    assert run("--version")[:2] == (0, f"skylark, version {libskylark.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    code, out, _ = run(command, "-h")
    assert code == 0
    assert f"skylark {command}" in out


def test_wrong_input_is_one_message_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deployment").mkdir()
    (tmp_path / "deployment/constellation.yaml").write_text("nodes: []\n")
    code, out, err = run("render", "--project", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith(f"skylark: {tmp_path}/deployment/constellation.yaml:1: nodes: ")


def test_a_missing_constellation_is_one_message_with_the_next_step(run: Run, tmp_path: Path) -> None:
    code, _, err = run("render", "--project", str(tmp_path))
    assert code == 2
    assert err.startswith(f"skylark: {tmp_path}/deployment/constellation.yaml: is not there; ")
    assert "name the file with --constellation" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["moves"], ["elect"], ["trace", "1"], ["dead-letters", "list"]])
def test_without_a_lab_a_command_says_how_to_start_one(run: Run, tmp_path: Path, command: list[str]) -> None:
    code, _, err = run(*command, "--project", str(tmp_path))
    assert code == 1
    assert err == f"skylark: no lab runs for {tmp_path}; start one there with `skylark up`\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["check", "--nonsense"], ["send"], ["up", "--tick", "0.1s"]])
def test_wrong_usage_exits_with_2_and_says_what_is_expected(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert re.fullmatch(r"skylark[a-z ]*: .+; see `skylark[a-z ]* --help`\n", err)


@pytest.mark.parametrize(
    ("text", "words"), [("0.4s", "expected at least 0.5s"), ("fast", "expected a duration such as")]
)
def test_a_faulty_tick_is_named_with_its_value(text: str, words: str) -> None:
    result = CliRunner().invoke(cli, ["demo", "--tick", text])
    assert result.exit_code == 2
    assert text in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("given", "words"), [("stats", "the nearest is status"), ("quux", "expected one of up, demo, check, doctor")]
)
def test_an_unknown_command_is_told_what_there_is(run: Run, given: str, words: str) -> None:
    code, out, err = run(given)
    assert (code, out) == (2, "")
    assert err.startswith(f"skylark: found no command '{given}'; {words}")
    assert err.endswith("; see `skylark --help`\n")


def test_help_is_there_without_a_command_being_imported() -> None:
    imported = "import sys, libskylark.cli.main as m; m.cli(['--help'], standalone_mode=False); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, timeout=60, check=True)
    told, _, modules = ended.stdout.rpartition("Tab.\n")
    assert all(f"  {name} " in told for name in COMMANDS if name != "completion")
    heavy = {"flask", "pydantic", "redis", "rich", "numpy", "requests", "libskylark.config", "libskylark.function"}
    assert heavy.isdisjoint(modules.split())
    assert "click" in modules.split()


def test_completion_without_a_shell_is_one_line_with_the_choices(run: Run) -> None:
    code, _, err = run("completion")
    expected = "missing argument '{bash|zsh|fish}'; bash, zsh, fish; see `skylark completion --help`"
    assert (code, err) == (2, f"skylark completion: {expected}\n")


@pytest.mark.parametrize("made", [[], ["functions/count/function.py"]])
def test_the_demo_says_where_its_project_is(run: Run, write: Write, tmp_path: Path, made: list[str]) -> None:
    for path in made:
        write(path, function_py())
    code, _, err = run("demo", "--no-dashboard", "--project", str(tmp_path))
    assert code == 1
    assert err.startswith("skylark: the demo")
    assert err.endswith("; run it in a clone of Skylark's repository, or name that with `--project`\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert f"_SKYLARK_COMPLETE={shell}_complete" in out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("skylark st", {"status"}),
        ("skylark d", {"demo", "doctor", "dead-letters"}),
        ("skylark dead-letters re", {"replay"}),
        ("skylark check --", {"--project", "--json", "--help"}),
        ("skylark elect --policy r", {"random"}),
        (f"skylark elect --project {ROOT} --node pi5", {"pi5u1", "pi5u2", "pi5u3", "pi5u4"}),
        ("skylark elect --project / --node pi5", set()),
    ],
)
def test_tab_offers_commands_options_and_values(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: str, offered: set[str]
) -> None:
    monkeypatch.setenv("_SKYLARK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    code, out, _ = run()
    assert code == 0
    assert {line.partition(",")[2] for line in out.split()} == offered


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--network", "127.256"), "'--network': found '127.256', expected 127.N with N from 0 to 255"),
        (("up", "--network", "10.0"), "found '10.0', expected 127.N"),
        (("up", "--network", "127.01"), "found '127.01', expected 127.N"),
        (("send", __file__, "--broker", "nowhere"), "found 'nowhere', expected http:// or https:// and a host"),
    ],
)
def test_a_faulty_value_is_named_with_what_would_be_right(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


@pytest.fixture
def project(write: Write, tmp_path: Path) -> Path:
    write("functions/count/function.py", function_py())
    return tmp_path


def test_up_says_who_holds_a_port_before_it_starts_anything(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("SKYLARK_REDIS_PORT", str(port))
        for name in ("SKYLARK_ELECT_PORT", "NODE_INFO_PORT", "SKYLARK_BROKER_PORT"):
            monkeypatch.setenv(name, str(free_port("127.0.0.1")))
        code, _, err = run("up", "--project", str(project))
    assert code == 1
    assert f"ports: taken: 127.0.0.1:{port} (redis) by process" in err
    assert "give the lab other addresses: say `--network 127.1` too" in err


def test_a_folder_for_data_that_cannot_be_written_is_named(run: Run, project: Path) -> None:
    code, _, err = run("up", "--project", str(project), "--data", "/proc/nowhere")
    assert (code, err) == (
        1,
        "skylark: cannot write to /proc/nowhere: No such file or directory; name another folder\n",
    )


def test_a_broker_that_is_away_is_told_without_the_clients_words(run: Run, tmp_path: Path, unused_port: int) -> None:
    file = tmp_path / "order.json"
    file.write_text("{}")
    url = f"http://127.0.0.1:{unused_port}/default/default"
    code, _, err = run("send", str(file), "--type", "com.example.order", "--broker", url)
    assert (code, err) == (1, f"skylark: {url} took no event: connection refused\n")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_are_for_terminals_and_go_with_no_color(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TERM", "xterm-256color")
    code, out, _ = run("check", "--project", str(project))
    assert code == 0
    assert ("\x1b[32m" in out) is coloured
