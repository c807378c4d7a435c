"""What the manifests start does start: under gunicorn, with the very environment that they give, on a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import requests

from libskylark.lab.redis_server import find_redis_server
from tests.conftest import ROOT, RedisNode, free_port
from tests.deployment.conftest import DEPLOYMENT
from tests.deployment.kustomize import Manifest, build, containers, pod_of, read

HOST = "127.0.0.1"
PASSWORD = "correct-horse"
LONGEST_START_S = 30

OBJECTS = build(DEPLOYMENT / "overlays/in-memory")
SETS = [m for m in OBJECTS if m["kind"] == "DaemonSet" and m["metadata"]["name"] != "redis"]
SERVICES = {
    m["metadata"]["labels"]["app.kubernetes.io/component"]: m
    for m in OBJECTS
    if m["apiVersion"] == "serving.knative.dev/v1"
}
STARTED = [*SETS, *SERVICES.values()]


def environment_of(workload: Manifest, constellation: Path, node: str = "pi5u4") -> dict[str, str]:
    """The container's environment as the kubelet makes it."""
    maps = {m["metadata"]["name"]: m["data"] for m in OBJECTS if m["kind"] == "ConfigMap"}
    (container,) = containers(workload)
    fields = {"status.hostIP": HOST, "spec.nodeName": node}
    environment = {}
    for source in container["envFrom"]:
        environment.update(maps[source["configMapRef"]["name"]])
    for entry in container["env"]:
        source = entry.get("valueFrom", {})
        if "fieldRef" in source:
            environment[entry["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "configMapKeyRef" in source:
            environment[entry["name"]] = maps[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]]
        elif "secretKeyRef" in source:
            environment[entry["name"]] = PASSWORD
        else:
            environment[entry["name"]] = entry["value"]
    if "SKYLARK_CONSTELLATION" in environment:  # what the volume of the ConfigMap holds
        constellation.write_text(maps["constellation"][Path(environment["SKYLARK_CONSTELLATION"]).name])
        environment["SKYLARK_CONSTELLATION"] = str(constellation)
    return environment


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisNode]:
    """Redis as the DaemonSet starts it: its command, its configuration, its environment."""
    (manifest,) = (m for m in OBJECTS if m["metadata"]["name"] == "redis" and m["kind"] == "DaemonSet")
    (container,) = (pod_of(manifest) or {})["containers"]
    folder = tmp_path_factory.mktemp("redis")
    port = free_port(HOST)
    (text,) = (m["data"]["redis.conf"] for m in OBJECTS if m["metadata"]["name"] == "redis" and "data" in m)
    (folder / "redis.conf").write_text(text.replace("port 36379", f"port {port}").replace("dir /data", f"dir {folder}"))
    command = container["args"][0].replace("/etc/redis/redis.conf", str(folder / "redis.conf"))
    command = command.replace("valkey-server", str(find_redis_server()))
    command = command.replace("$HOST_IP 127.0.0.1", "$HOST_IP")  # here the two are one
    environment = {"PATH": os.defpath, "HOST_IP": HOST, "REDISCLI_AUTH": PASSWORD}
    process = subprocess.Popen([*container["command"], command], env=environment, stdout=subprocess.DEVNULL)
    try:
        with closing(redis.Redis(HOST, port, password=PASSWORD)) as client:
            await_answer(client.ping, redis.ConnectionError, process)
        yield RedisNode(HOST, port)
    finally:
        process.terminate()
        assert process.wait(10) == 0  # the server itself gets the signal, not a shell


def await_answer(ask: object, failure: type[Exception], process: subprocess.Popen[bytes]) -> None:
    deadline_s, pace = time.monotonic() + LONGEST_START_S, threading.Event()
    while True:
        try:
            ask()  # type: ignore[operator]
            return
        except failure:
            assert process.poll() is None, f"the process ended with {process.returncode}"
            assert time.monotonic() < deadline_s, "it does not answer"
            pace.wait(0.05)


def test_redis_keeps_what_the_configuration_says(store: RedisNode) -> None:
    with closing(redis.Redis(store.host, store.port, password=PASSWORD, decode_responses=True)) as client:
        found = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly", "save", "bind")}
        limit_bytes = int(client.config_get("maxmemory")["maxmemory"] or 0)
    assert found == {"maxmemory-policy": "noeviction", "appendonly": "yes", "save": "", "bind": HOST}
    (manifest,) = (m for m in OBJECTS if m["metadata"]["name"] == "redis" and m["kind"] == "DaemonSet")
    limit = (pod_of(manifest) or {})["containers"][0]["resources"]["limits"]["memory"]
    assert limit == "1Gi"
    assert 0 < limit_bytes < 2**30


def test_redis_answers_nobody_without_the_password(store: RedisNode) -> None:
    with closing(redis.Redis(store.host, store.port)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.parametrize("workload", STARTED, ids=[m["metadata"]["name"] for m in STARTED])
def test_what_a_manifest_starts_becomes_ready(workload: Manifest, store: RedisNode, tmp_path: Path) -> None:
    (container,) = containers(workload)
    (role,) = container["args"]
    port = free_port(HOST)
    environment = environment_of(workload, tmp_path / "constellation.yaml")
    # Many share a machine here, so that each process has a port of its own.
    environment |= {"PATH": os.environ["PATH"], "SKYLARK_REDIS_PORT": str(store.port), "PORT": str(port)}
    environment.setdefault("SKYLARK_BIND_HOST", HOST)
    command = [sys.executable, "-m", "libskylark.serving", role]  # the image's entry point
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        await_answer(lambda: requests.get(f"http://{HOST}:{port}/health", timeout=5), requests.ConnectionError, process)
        for probe in ("readinessProbe", "livenessProbe"):
            answer = requests.get(f"http://{HOST}:{port}{container[probe]['httpGet']['path']}", timeout=10)
            assert answer.status_code == 200, (answer.text, log.read_text())
    finally:
        process.terminate()
        process.wait(20)


def test_every_function_that_has_nodes_is_deployed() -> None:
    (constellation,) = read(DEPLOYMENT / "constellation.yaml")
    assert set(SERVICES) == {name for name, function in constellation["functions"].items() if function["nodes"]}
