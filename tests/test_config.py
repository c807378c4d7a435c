from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from libskylark.config import NodeSettings, from_environment, parse_duration_s
from libskylark.errors import SettingError
from libskylark.eventing.settings import BrokerSettings
from libskylark.sender import own_broker_url

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


@given(st.integers(0, 10**9), st.sampled_from(sorted(UNITS)))
def test_durations_of_whole_units_are_read_exactly(number: int, unit: str) -> None:
    assert parse_duration_s(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(("text", "seconds"), [("1.5m", 90.0), (" 2s ", 2.0), ("0.25", 0.25), (3, 3.0), (0.5, 0.5)])
def test_durations_are_read_from_decimals_spaces_and_numbers(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1d", "1e3", "1.s", ".5s", "1s2m", "nan", "inf", None, True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration_s(text)


@given(st.text())
def test_no_text_breaks_the_duration_parser(text: str) -> None:
    try:
        seconds = parse_duration_s(text)
    except ValueError:
        return
    assert seconds >= 0


def test_the_defaults_are_those_of_the_design() -> None:
    settings = from_environment(NodeSettings, {})
    assert (settings.node_info_port, settings.elect_port, settings.broker_port) == (8080, 8081, 8090)
    assert settings.redis_port == 36379
    assert settings.redis_password is None
    assert settings.tick_s == 60.0
    assert settings.inline_limit_bytes == 4096
    assert settings.policy == "skylark"


def test_variables_of_the_environment_fill_the_settings() -> None:
    settings = from_environment(
        NodeSettings,
        {"NODE_NAME": "pi5u2", "LOCAL_NODE_HOST": "127.0.0.34", "SKYLARK_TICK": "5s", "SKYLARK_STATE_TTL": "2m"},
    )
    assert (settings.node, settings.host, settings.tick_s, settings.state_ttl_s) == ("pi5u2", "127.0.0.34", 5.0, 120.0)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "pi4p1")
    assert from_environment(NodeSettings).node == "pi4p1"


def test_an_empty_variable_counts_as_unset() -> None:
    assert from_environment(NodeSettings, {"SKYLARK_REDIS_PORT": ""}).redis_port == 36379


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SKYLARK_REDIS_PORT", "seven"),
        ("SKYLARK_REDIS_PORT", "0"),
        ("NODE_INFO_PORT", "65536"),
        ("SKYLARK_TICK", "0.4s"),
        ("SKYLARK_TICK", "soon"),
        ("SKYLARK_STATE_TTL", "0"),
        ("SKYLARK_POLICY", "greedy"),
        ("SKYLARK_INLINE_LIMIT_BYTES", "9000"),
        ("SKYLARK_INLINE_LIMIT_BYTES", "-1"),
        ("NODE_NAME", "no spaces"),
        ("NODE_NAME", "a:b"),
    ],
)
def test_a_faulty_variable_is_named_with_its_value(key: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        from_environment(NodeSettings, {key: value})
    assert (caught.value.key, caught.value.value) == (key, value)
    assert f"setting {key}: found {value!r}, expected" in str(caught.value)


def test_a_password_is_shown_nowhere() -> None:
    settings = from_environment(NodeSettings, {"SKYLARK_REDIS_PASSWORD": "hush"})
    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == "hush"
    assert "hush" not in repr(settings)


def test_a_faulty_password_is_not_repeated() -> None:
    class Secretive(BaseModel):
        secret: str = Field("", alias="SOME_PASSWORD", min_length=8)

    with pytest.raises(SettingError) as caught:
        from_environment(Secretive, {"SOME_PASSWORD": "hush"})
    assert "hush" not in str(caught.value)
    assert caught.value.value == "(hidden)"


@pytest.mark.parametrize("settings", [NodeSettings, BrokerSettings])
def test_a_keyword_that_is_no_setting_is_refused(settings: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match=r"redis_prot\n.*not permitted"):
        settings.model_validate({"redis_prot": 1})


def test_other_variables_of_the_environment_are_no_settings() -> None:
    found = from_environment(NodeSettings, {"SKYLARK_REDIS_PROT": "1", "HOME": "/"})
    assert found == from_environment(NodeSettings, {})


def test_a_setting_error_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="SKYLARK_ELECT_PORT"):
        from_environment(NodeSettings, {"SKYLARK_ELECT_PORT": "x"})


def test_events_go_to_the_nodes_broker_unless_a_cluster_says_where() -> None:
    own = from_environment(NodeSettings, {"LOCAL_NODE_HOST": "127.0.0.34"})
    bound = from_environment(NodeSettings, {"K_SINK": "http://broker-ingress.knative-eventing.svc/skylark/default"})
    assert own_broker_url(own) == "http://127.0.0.34:8090/default/default"
    assert own_broker_url(bound) == "http://broker-ingress.knative-eventing.svc/skylark/default"


@pytest.mark.parametrize("url", ["broker", "ftp://broker/", "http://"])
def test_a_sink_is_an_address_over_http(url: str) -> None:
    with pytest.raises(SettingError, match=r"K_SINK.*http:// or https://"):
        from_environment(NodeSettings, {"K_SINK": url})


@pytest.mark.parametrize(
    "token", ["short", "sixteen letters with spaces", "0123456789abcde\n", "0123456789abcd\u00e4\u00e4"]
)
def test_a_token_that_is_easy_or_cannot_be_a_header_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingError, match="16 to 1024 printable ASCII characters") as error:
        from_environment(NodeSettings, {"SKYLARK_BROKER_TOKEN": token})
    assert token not in str(error.value)


def test_a_token_is_not_shown_with_the_settings() -> None:
    settings = from_environment(NodeSettings, {"SKYLARK_BROKER_TOKEN": "0123456789abcdef"})
    assert settings.token == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(settings)


def test_one_largest_body_must_have_room() -> None:
    with pytest.raises(SettingError, match=r"SKYLARK_BROKER_MAX_HELD_BYTES.*at least 10485760"):
        from_environment(BrokerSettings, {"SKYLARK_BROKER_MAX_HELD_BYTES": "1000"})
