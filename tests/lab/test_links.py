from __future__ import annotations

import contextlib
import queue
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from libskylark.config import ELECT_PORT, NODE_INFO_PORT
from libskylark.constellation import Constellation, ConstellationSpec, read_constellation
from libskylark.errors import LabError, SettingError, StoreUnavailable
from libskylark.lab.doors import LinkDoors
from libskylark.lab.lab import Lab
from libskylark.lab.link_server import LabLinks, control_app, create_app
from libskylark.lab.links import CutMode, Figures, Reroute
from libskylark.lab.relay import LinkRelay
from libskylark.project import read_project
from libskylark.store import Store
from libskylark.testing import FakeClock
from libskylark.topology import Link, Node, Topology

TIMEOUT_S = 20.0

Handler = Callable[[socket.socket], None]
Serve = Callable[[Handler], tuple[str, int]]


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def count(connection: socket.socket) -> None:
    """Answers, at the end, how many bytes came."""
    total_bytes = 0
    while data := connection.recv(1 << 18):
        total_bytes += len(data)
    connection.sendall(total_bytes.to_bytes(8, "big"))


@pytest.fixture
def listen() -> Iterator[Serve]:
    """`listen(handler)`: where a server now runs the handler for each connection, in a thread."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def converse(connection: socket.socket, handler: Handler) -> None:
        with connection, contextlib.suppress(OSError):
            handler(connection)

    def accept(server: socket.socket, handler: Handler) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.settimeout(TIMEOUT_S)
                threads.append(threading.Thread(target=converse, args=(connection, handler)))
                threads[-1].start()

    def start(handler: Handler) -> tuple[str, int]:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threads.append(threading.Thread(target=accept, args=(server, handler)))
        threads[-1].start()
        host, port = server.getsockname()
        return host, port

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(TIMEOUT_S)


@pytest.fixture
def relay(listen: Serve) -> Iterator[LinkRelay]:
    with LinkRelay(seed=7, window_bytes=1 << 16) as running:
        yield running


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=TIMEOUT_S)


def receive(connection: socket.socket, size_bytes: int) -> bytes:
    received = b""
    while len(received) < size_bytes and (data := connection.recv(size_bytes - len(received))):
        received += data
    return received


def drain(connection: socket.socket) -> tuple[bytes, type[OSError] | None]:
    """What still comes, and how receiving failed; None where the other end has ended well."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except OSError as error:
        return received, type(error)
    return received, None


def round_trip_s(connection: socket.socket) -> float:
    started_s = time.monotonic()
    connection.sendall(b"ping")
    assert receive(connection, 4) == b"ping"
    return time.monotonic() - started_s


def set_up_s(address: tuple[str, int]) -> float:
    """From connect, where the time of setting up begins, to the first answer."""
    started_s = time.monotonic()
    with connect(address) as connection:
        round_trip_s(connection)
    return time.monotonic() - started_s


def transfer(address: tuple[str, int], size_bytes: int) -> None:
    with connect(address) as connection:
        connection.sendall(bytes(size_bytes))
        connection.shutdown(socket.SHUT_WR)
        assert int.from_bytes(receive(connection, 8), "big") == size_bytes


def pair_of(relay: LinkRelay) -> dict[str, Any]:
    return relay.status()[0]


def state_of(relay: LinkRelay) -> str:
    return str(pair_of(relay)["state"])


def wait_until(found: Callable[[], bool]) -> None:
    deadline_s, pace = time.monotonic() + TIMEOUT_S, threading.Event()
    while not found():
        assert time.monotonic() < deadline_s
        pace.wait(0.005)


# Delay and rate


def test_both_directions_are_delayed_and_setting_up_takes_a_round_trip(relay: LinkRelay, listen: Serve) -> None:
    address = relay.open("a", "b", *listen(echo))
    relay.set("a", "b", Figures(latency_ms=20))
    assert 0.08 <= set_up_s(address) < TIMEOUT_S
    with connect(address) as connection:
        round_trip_s(connection)
        assert 0.04 <= round_trip_s(connection) < TIMEOUT_S


def test_what_takes_no_time_is_fast(relay: LinkRelay, listen: Serve) -> None:
    with connect(relay.open("a", "b", *listen(echo))) as connection:
        assert min(round_trip_s(connection) for _ in range(50)) < 0.02


@pytest.mark.parametrize("flows", [1, 5])
def test_the_bandwidth_is_shared_by_all_connections_of_a_direction(relay: LinkRelay, listen: Serve, flows: int) -> None:
    address = relay.open("a", "b", *listen(count))
    relay.set("a", "b", Figures(bandwidth_mbps=40))
    size_bytes = 1_500_000
    started_s = time.monotonic()
    threads = [threading.Thread(target=transfer, args=(address, size_bytes // flows)) for _ in range(flows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert size_bytes * 8 / 40e6 <= time.monotonic() - started_s < TIMEOUT_S


# Content


@settings(max_examples=15)
@given(
    chunks=st.lists(st.binary(max_size=20_000), max_size=6),
    jitter_ms=st.sampled_from([0.0, 5.0]),
    bandwidth_mbps=st.sampled_from([8.0, float("inf")]),
)
def test_order_and_content_are_kept_both_ways_at_once(
    chunks: list[bytes], jitter_ms: float, bandwidth_mbps: float
) -> None:
    def both(connection: socket.socket) -> bytes:
        def send() -> None:
            for chunk in chunks:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        sender.join(TIMEOUT_S)
        return received

    with socket.create_server(("127.0.0.1", 0)) as server, LinkRelay(seed=1) as relay:
        address = relay.open("a", "b", *server.getsockname()[:2])
        relay.set("a", "b", Figures(1.0, jitter_ms, bandwidth_mbps))
        there: list[bytes] = []
        with connect(address) as client:
            accepted, _ = server.accept()
            with accepted:
                other = threading.Thread(target=lambda: there.append(both(accepted)))
                other.start()
                assert both(client) == b"".join(chunks)
                other.join(TIMEOUT_S)
                assert there == [b"".join(chunks)]


def test_what_a_server_said_before_it_closed_arrives_although_the_client_still_talks(
    relay: LinkRelay, listen: Serve
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"too large")

    address = relay.open("a", "b", *listen(refuse))
    relay.set("a", "b", Figures(latency_ms=30))
    with connect(address) as connection:
        connection.sendall(b"x")
        assert receive(connection, 9) == b"too large"


def test_a_server_that_is_not_there_resets_after_a_round_trip(relay: LinkRelay, unused_port: int) -> None:
    address = relay.open("a", "b", "127.0.0.1", unused_port)
    relay.set("a", "b", Figures(latency_ms=20))
    started_s = time.monotonic()
    with pytest.raises(ConnectionResetError), connect(address) as connection:
        connection.recv(1)
    assert time.monotonic() - started_s >= 0.04


def test_a_reader_that_does_not_read_stops_the_sender(relay: LinkRelay, listen: Serve) -> None:
    ended = threading.Event()

    def ignore(connection: socket.socket) -> None:
        ended.wait(TIMEOUT_S)

    address = relay.open("a", "b", *listen(ignore))
    sent_bytes = 0
    try:
        with connect(address) as connection, selectors.DefaultSelector() as selector:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_WRITE)
            while selector.select(0.5):  # until nothing moves any more
                sent_bytes += connection.send(bytes(1 << 16))
            waiting_bytes = pair_of(relay)["waiting_bytes"]
    finally:
        ended.set()
    assert 1 << 16 <= waiting_bytes <= (1 << 16) + (1 << 18)  # the window of this relay, and a chunk
    assert sent_bytes < 64 << 20  # the rest is in the kernel's buffers, which the test does not set


# Cuts


def test_a_cut_drops_what_is_there_and_refuses_what_comes_until_it_is_healed(relay: LinkRelay, listen: Serve) -> None:
    address = relay.open("a", "b", *listen(echo))
    with connect(address) as connection:
        round_trip_s(connection)
        relay.cut("b", "a", "reset")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionResetError), connect(address) as refused:
        refused.recv(1)
    assert state_of(relay) == "reset"
    relay.heal("a", "b")
    with connect(address) as connection:
        round_trip_s(connection)
    wait_until(lambda: pair_of(relay)["connections"] == 0)


def test_a_silent_cut_leaves_both_ends_waiting_and_loses_nothing(relay: LinkRelay, listen: Serve) -> None:
    address = relay.open("a", "b", *listen(echo))
    with connect(address) as old:
        round_trip_s(old)
        relay.cut("a", "b")
        with connect(address) as new:  # the kernel accepts it; nobody answers
            for connection in (old, new):
                connection.sendall(b"hello")
                connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(TIMEOUT_S)
            relay.heal("a", "b")
            assert [receive(connection, 5) for connection in (old, new)] == [b"hello", b"hello"]


@pytest.mark.parametrize("mode", ["silent", "reset"])
def test_a_cut_in_mid_transfer_lets_nothing_through_and_only_a_reset_tells(
    relay: LinkRelay, listen: Serve, mode: CutMode
) -> None:
    content = random.Random(1).randbytes(4_000_000)  # more than all buffers on the way hold
    sent = threading.Event()

    def send(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(content)
        sent.set()

    address = relay.open("a", "b", *listen(send))
    relay.set("a", "b", Figures(bandwidth_mbps=100))
    with connect(address) as connection:
        received = receive(connection, 100_000)
        relay.cut("a", "b", mode)
        connection.settimeout(0.1)
        more, failure = drain(connection)
        received += more
        assert failure is (TimeoutError if mode == "silent" else ConnectionResetError)
        assert received == content[: len(received)]
        assert len(received) < len(content)
        if mode == "reset":
            assert sent.wait(TIMEOUT_S)  # the one that sends is told
        relay.heal("a", "b")
        if mode == "silent":
            connection.settimeout(TIMEOUT_S)
            assert received + receive(connection, len(content) - len(received)) == content


def test_over_a_silent_cut_nobody_hears_of_an_end_that_is_gone(relay: LinkRelay, listen: Serve) -> None:
    heard: queue.Queue[bytes | str] = queue.Queue()

    def attend(connection: socket.socket) -> None:
        try:
            while data := connection.recv(1 << 16):
                heard.put(data)
            heard.put("end")
        except ConnectionResetError:
            heard.put("reset")

    address = relay.open("a", "b", *listen(attend))
    with connect(address) as connection:
        connection.sendall(b"hello")
        assert heard.get(timeout=TIMEOUT_S) == b"hello"
        relay.cut("a", "b")
    with pytest.raises(queue.Empty):
        heard.get(timeout=0.1)
    relay.heal("a", "b")
    assert heard.get(timeout=TIMEOUT_S) == "end"


def test_a_cut_concerns_its_pair_alone_and_heal_all_all(relay: LinkRelay, listen: Serve) -> None:
    server = listen(echo)
    addresses = {pair: relay.open(*pair, *server) for pair in [("a", "b"), ("b", "a"), ("a", "c")]}
    relay.cut("a", "b", "reset")
    relay.cut("a", "c", "reset")
    relay.heal("a", "c")
    with connect(addresses["a", "c"]) as connection:
        round_trip_s(connection)
    with pytest.raises(ConnectionResetError), connect(addresses["b", "a"]) as refused:
        refused.recv(1)
    relay.heal_all()
    with connect(addresses["b", "a"]) as connection:
        round_trip_s(connection)


def test_unknown_pairs_are_told_with_the_known_nodes(relay: LinkRelay, listen: Serve) -> None:
    relay.open("a", "b", *listen(echo))
    with pytest.raises(LabError, match="no traffic between 'a' and 'x' is relayed, expected two of the nodes a, b"):
        relay.cut("a", "x")
    with pytest.raises(LabError, match="'a' reaches itself"):
        relay.open("a", "a", *listen(echo))


def test_an_address_in_use_is_named(relay: LinkRelay, listen: Serve) -> None:
    host, port = listen(echo)
    with pytest.raises(LabError, match=f"the links cannot use address {host}:{port}: Address already in use"):
        relay.open("a", "b", host, port, at=host)


def test_a_relay_that_ends_ends_its_connections(listen: Serve) -> None:
    with LinkRelay() as relay:
        connection = connect(relay.open("a", "b", *listen(echo)))
        round_trip_s(connection)
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


# Routes


def topology(*links: Link) -> Topology:
    return Topology.of([Node(name, "Sat", f"10.0.0.{n}") for n, name in enumerate("abc", 1)], links)


AROUND = topology(Link("a", "c", 3, 40), Link("c", "b", 4, 40))
RING = topology(Link("a", "b", 5, 40), *AROUND.links)


@pytest.mark.parametrize("reroute", ["survive", "break"])
def test_flows_of_a_changed_route_survive_or_break_by_setting(listen: Serve, reroute: Reroute) -> None:
    with LinkRelay(reroute=reroute) as relay:
        changed, unchanged = relay.open("a", "b", *listen(echo)), relay.open("a", "c", *listen(echo))
        relay.follow(RING)
        with connect(changed) as moved, connect(unchanged) as kept:
            round_trip_s(moved)
            round_trip_s(kept)
            relay.follow(AROUND)
            round_trip_s(kept)
            if reroute == "break":
                with pytest.raises(ConnectionResetError):
                    moved.recv(1)
            else:
                assert round_trip_s(moved) >= 2 * 0.007
        assert set_up_s(changed) >= 4 * 0.007


def test_flows_over_a_link_that_is_cut_wait_and_go_another_way_from_the_next_epoch_on(
    relay: LinkRelay, listen: Serve
) -> None:
    address = relay.open("a", "b", *listen(echo))
    relay.follow(RING)
    with connect(address) as connection:
        round_trip_s(connection)
        relay.cut("a", "b", scope="link")
        connection.sendall(b"hello")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        (link, *_), connections = relay.links(), pair_of(relay)["connections"]
        assert (link["nodes"], link["cut"], link["connections"], connections) == (["a", "b"], "silent", 1, 1)
        relay.follow(RING)
        connection.settimeout(TIMEOUT_S)
        assert receive(connection, 5) == b"hello"
        assert pair_of(relay)["path"] == ["a", "c", "b"]
        assert relay.carried_bytes()["a", "c"] == 5  # the ping went before the cut, the other way
        assert [link["connections"] for link in relay.links()] == [0, 1, 1]


# The ticks


CONSTELLATION = """
nodes:
  - {name: ground, type: Cloud, ip: 10.0.0.1}
  - {name: east, type: Sat, ip: 10.0.0.2}
  - {name: west, type: Sat, ip: 10.0.0.3}
link_types:
  Cloud-to-Sat: {latency_ms: 5, bandwidth_mbps: 90}
  Sat-to-Sat: {latency_ms: 2, bandwidth_mbps: 40}
links: [[east, west]]
rotation: {ground: ground, satellites: [east, west]}
"""


@pytest.fixture
def constellation(tmp_path: Path) -> Constellation:
    (tmp_path / "constellation.yaml").write_text(CONSTELLATION)
    return read_constellation(tmp_path / "constellation.yaml")


def test_the_relay_follows_the_ticks_with_flows_that_go_on(
    constellation: Constellation, listen: Serve, clock: FakeClock
) -> None:
    with LinkRelay(clock=clock) as relay:
        address = relay.open("ground", "east", *listen(echo))
        epoch = int(clock.now_s() / 0.5)
        relay.follow_ticks(constellation, 0.5)
        latencies_ms = [5.0, 7.0][:: 1 if constellation.access(epoch) == "east" else -1]
        assert pair_of(relay)["latency_ms"] == latencies_ms[0]
        with connect(address) as connection:
            round_trip_s(connection)
            clock.advance(0.5)
            wait_until(lambda: pair_of(relay)["latency_ms"] == latencies_ms[1])
            round_trip_s(connection)


# The lab


def test_the_control_service_refuses_in_words(relay: LinkRelay, listen: Serve, serve: Callable[..., int]) -> None:
    relay.open("a", "b", *listen(echo))
    url = f"http://127.0.0.1:{serve(control_app(relay))}"
    links = LabLinks(url)
    links.set("a", "b", Figures(3.0, 1.0))
    links.cut("a", "b", "silent")
    (pair,) = links.status()
    assert (pair["latency_ms"], pair["bandwidth_mbps"], pair["state"], pair["pinned"]) == (3.0, None, "silent", True)
    links.unset("a", "b")
    links.set("a", "b", Figures(bandwidth_mbps=8))
    links.heal("a", "b")
    links.cut("a", "b")
    links.heal_all()
    (pair,) = links.status()
    assert (pair["bandwidth_mbps"], pair["state"]) == (8, "open")
    with pytest.raises(LabError, match="expected two of the nodes a, b"):
        links.cut("a", "moon")
    answer = requests.post(f"{url}/cut", json={"a": "a", "b": "b", "mode": "slow"}, timeout=TIMEOUT_S)
    assert answer.status_code == 400
    assert "mode: found 'slow'" in answer.json()["detail"]
    assert "process_cpu_seconds_total" in requests.get(f"{url}/metrics", timeout=TIMEOUT_S).text


def test_over_the_control_service_links_are_cut_and_set_as_well(
    relay: LinkRelay, listen: Serve, serve: Callable[..., int]
) -> None:
    relay.open("a", "b", *listen(echo))
    relay.follow(RING)
    links = LabLinks(f"http://127.0.0.1:{serve(control_app(relay))}")
    links.set("b", "a", Figures(3.0, 1.0, 8.0), scope="link")
    links.cut("a", "b", scope="link")
    (link, *others), (pair,) = links.links(), links.status()
    assert (link["nodes"], link["cut"], link["pinned"], link["bandwidth_mbps"]) == (["a", "b"], "silent", True, 8)
    assert [other["cut"] for other in others] == [None, None]
    assert (pair["state"], pair["cut"], pair["path"], pair["latency_ms"]) == ("silent", None, ["a", "b"], 3)
    links.heal("a", "b", scope="link")
    links.unset("a", "b", scope="link")
    assert (links.status()[0]["state"], links.status()[0]["latency_ms"]) == ("open", 5)
    assert set(links.carried_bytes().values()) == {0}
    with pytest.raises(LabError, match="no link joins 'a' and 'moon' in any epoch, expected one of the links a - b"):
        links.cut("a", "moon", scope="link")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SKYLARK_LINKS", ""),
        ("SKYLARK_LINKS_SEED", "-1"),
        ("SKYLARK_LINKS_REROUTE", "hope"),
        ("SKYLARK_LINKS_NO_ROUTE", "loud"),
    ],
)
def test_a_faulty_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"setting {name}: found '{value}', expected"):
        create_app({name: value})


def test_without_a_relay_its_address_is_named(unused_port: int) -> None:
    with pytest.raises(LabError, match=f"the relay at http://127.0.0.1:{unused_port} did not answer"):
        LabLinks(f"http://127.0.0.1:{unused_port}").status()


def spec_of(count: int, third_octet: Callable[[int], int]) -> Constellation:
    nodes = [{"name": f"n{n}", "type": "Sat", "ip": f"127.9.{third_octet(n)}.{1 + n % 250}"} for n in range(count)]
    return Constellation(ConstellationSpec.model_validate({"nodes": nodes}))


@pytest.mark.parametrize(("count", "spread"), [(9, 1), (9, 9), (120, 7), (240, 12)])
def test_all_addresses_differ_and_stay_within_the_network(count: int, spread: int) -> None:
    constellation = spec_of(count, lambda n: n % spread)
    doors = LinkDoors(constellation, "127.9")
    names = list(constellation.nodes)
    pairs = [doors.address(a, b) for a in names for b in names if a != b]
    own = [node.ip for node in constellation.nodes.values()]
    assert [doors.address(name, name) for name in names] == own
    addresses = [*own, *pairs, doors.control_host]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("127.9.") for address in addresses)
    assert all(0 < int(address.split(".")[3]) < 255 for address in pairs)


def test_too_many_nodes_for_links_are_refused() -> None:
    with pytest.raises(LabError, match="found 240 nodes, expected at most 154"):
        LinkDoors(spec_of(240, lambda n: n % 101), "127.9")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Three nodes, of which `ground` runs a function that counts."""
    (tmp_path / "deployment").mkdir()
    (tmp_path / "deployment/constellation.yaml").write_text(CONSTELLATION)
    folder = tmp_path / "functions/count"
    folder.mkdir(parents=True)
    (folder / "function.py").write_text(
        "from libskylark import Function\n"
        'app = function = Function("count", emits=None)\n'
        "@function.handler\n"
        "def count(event, memory):\n"
        '    memory["seen"] = memory.get("seen", 0) + 1\n'
    )
    network = f"127.{random.SystemRandom().randrange(64, 224)}"
    with Lab(read_project(tmp_path), tick_s=60.0, network=network, links=True) as lab:
        lab.start_nodes()
        yield lab


def test_in_a_lab_nodes_reach_each_other_over_links_that_can_be_cut(lab: Lab) -> None:
    real = lab.plan.constellation
    seen = read_constellation(lab.run_directory / "constellations/east.yaml")
    assert seen.nodes["east"] == real.nodes["east"]
    assert {seen.nodes[name].ip for name in ("ground", "west")}.isdisjoint(node.ip for node in real.nodes.values())
    answer = requests.get(f"http://{real.nodes['east'].ip}:{NODE_INFO_PORT}/current-topology", timeout=TIMEOUT_S)
    told = {node["node_name"]: node["node_ip"] for node in answer.json()["nodes"]}
    assert told == {name: node.ip for name, node in seen.nodes.items()}

    store = lab.stores()["west"]
    over_link = Store(seen.nodes["west"].ip, int(store.address.rpartition(":")[2]), timeout_s=1.0)
    with contextlib.closing(over_link), contextlib.closing(store):
        started_s = time.monotonic()
        over_link.ping()
        assert time.monotonic() - started_s >= 4 * 0.002  # setting up, and the ping itself
        lab.links.cut("west", "east", "reset")
        with pytest.raises(StoreUnavailable):
            over_link.ping()
        store.ping()
        lab.links.heal("east", "west")
        over_link.ping()
        lab.links.cut("west", "east")
        with pytest.raises(StoreUnavailable, match="Timeout"):
            over_link.ping()
        lab.links.heal_all()
        over_link.ping()
        lab.links.cut("west", "east", "reset", scope="link")
        with pytest.raises(StoreUnavailable):
            over_link.ping()
        lab.links.heal("west", "east", scope="link")
        over_link.ping()
    services = requests.get(f"http://{seen.nodes['ground'].ip}:{ELECT_PORT}/ready", timeout=TIMEOUT_S)
    assert services.status_code == 200
