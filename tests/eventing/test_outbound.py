"""The allow-list of subscribers, by name and by where a name leads."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from libskylark.errors import ConfigError
from libskylark.eventing.connections import Connections
from libskylark.eventing.objects import Destination
from libskylark.eventing.outbound import AllowList, Outbound
from libskylark.eventing.resolve import Here, NoServices, resolve

LIST = AllowList.parse(
    "sink.example.com, api.example.com:8443, *.internal, 10.0.0.0/8, 192.0.2.7:81, [2001:db8::1]:80,::1"
)


@pytest.mark.parametrize(
    ("host", "port", "allowed"),
    [
        ("sink.example.com", 80, True),
        ("SINK.example.com.", 443, True),
        ("www.sink.example.com", 80, False),
        ("api.example.com", 8443, True),
        ("api.example.com", 80, False),
        ("a.b.internal", 80, True),
        ("internal", 80, False),
        ("notinternal", 80, False),
        ("10.1.2.3", 1, True),
        ("::ffff:10.1.2.3", 1, True),
        ("11.1.2.3", 1, False),
        ("192.0.2.7", 81, True),
        ("192.0.2.7", 80, False),
        ("2001:db8::1", 80, True),
        ("::1", 9, True),
        ("0x0a010203.invalid", 80, False),
    ],
)
def test_a_list_has_names_suffixes_and_networks(host: str, port: int, allowed: bool) -> None:
    if allowed:
        LIST.check(host, port)
    else:
        with pytest.raises(ConfigError, match="SKYLARK_SUBSCRIBER_ALLOW does not allow"):
            LIST.check(host, port)


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("sink.example.com", "192.168.1.1", True),  # listed whole, it is trusted
        ("a.internal", "8.8.8.8", True),
        ("a.internal", "10.0.0.9", True),
        ("a.internal", "192.168.1.1", False),
        ("a.internal", "127.0.0.1", False),
        ("a.internal", "169.254.169.254", False),
        ("a.internal", "::ffff:127.0.0.1", False),
        ("unlisted", "10.0.0.9", True),
        ("unlisted", "8.8.8.8", False),
    ],
)
def test_a_name_may_not_lead_elsewhere(host: str, address: str, allowed: bool) -> None:
    assert LIST.allows(host, address, 80) is allowed


@pytest.mark.parametrize(
    "text", ["http://x", "a b", "*", "*.", "10.0.0.0/40", "10.0.0.1/8", "x:0", "x:70000", "a..b", "[x]"]
)
def test_an_entry_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected hosts"):
        AllowList.parse(text)


def test_a_name_that_leads_outside_is_not_connected_to() -> None:
    outbound = Outbound(allow=AllowList.parse("*.localhost, 10.0.0.0/8"))
    with pytest.raises(PermissionError, match=r"127.0.0.1.*does not allow"):
        asyncio.run(Connections(1000, outbound).post(URL("http://localhost:9/"), {}, b"", 5.0))


def test_the_token_goes_to_the_brokers_of_the_constellation_only() -> None:
    outbound = Outbound.of(["127.0.0.1", "127.0.0.2"], 8090, "secret", None)
    assert outbound.authorization("127.0.0.2", 8090) == "Bearer secret"
    assert outbound.authorization("127.0.0.2", 8091) is None
    assert outbound.authorization("127.0.0.3", 8090) is None
    assert "secret" not in repr(outbound)


def test_a_uri_beside_a_reference_does_not_lead_elsewhere() -> None:
    reference = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    destination = Destination.model_validate({"ref": reference, "uri": "//elsewhere/x"})
    with pytest.raises(ConfigError, match="beside ref, expected a path"):
        resolve(destination, "default", Here("here", "127.0.0.1", 8090, AllowList.parse("x")), NoServices())


def test_the_list_does_not_concern_references() -> None:
    reference = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    destination = Destination.model_validate({"ref": reference})
    target = resolve(destination, "default", Here("here", "127.0.0.1", 8090, AllowList.parse("x")), NoServices())
    assert str(target.url) == "http://127.0.0.1:8090/default/default"
