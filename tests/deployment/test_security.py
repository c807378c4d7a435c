"""What the manifests may do and use is bounded: secrets, resources, privileges, rights, traffic."""

from __future__ import annotations

import re
from typing import Final

from libskylark.config import NodeSettings
from libskylark.placement import NODE_SERVICES
from tests.deployment.conftest import DEPLOYMENT
from tests.deployment.kustomize import Manifest, containers, pod_of
from tests.deployment.objects import environment, of_kind, workloads

SECRET: Final = "skylark-redis"


def test_no_file_holds_a_secret(objects: list[Manifest]) -> None:
    assert not of_kind(objects, "v1 Secret")
    secrets = [
        entry for workload in workloads(objects) for entry in environment(workload) if "secretKeyRef" in str(entry)
    ]
    assert secrets
    assert all(entry["valueFrom"]["secretKeyRef"] == {"name": SECRET, "key": "password"} for entry in secrets)
    for workload in workloads(objects):
        for entry in environment(workload):
            if re.search("PASSWORD|AUTH|TOKEN|SECRET", entry["name"]):
                assert "value" not in entry
    texts = [path.read_text("utf-8") for path in DEPLOYMENT.rglob("*") if path.is_file()]
    assert not any(re.search(r"^\s*(requirepass|password:) +[^\"$\s]", text, re.MULTILINE) for text in texts)


def test_every_container_has_requests_and_limits(objects: list[Manifest]) -> None:
    for workload in workloads(objects):
        for container in containers(workload):
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) == {"cpu", "memory"}, (workload["metadata"]["name"], kind)


def test_every_container_that_stays_has_probes(objects: list[Manifest]) -> None:
    for workload in workloads(objects):
        for container in (pod_of(workload) or {})["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container), workload["metadata"]["name"]


def test_no_container_may_do_more_than_it_needs(objects: list[Manifest]) -> None:
    for workload in workloads(objects):
        pod = pod_of(workload) or {}
        for container in containers(workload):
            # A Knative Service has it in the container, a DaemonSet partly in the pod.
            context = {**pod.get("securityContext", {}), **container["securityContext"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["capabilities"]["drop"] == ["ALL"]
            if container["name"] == "own-data":
                assert context["capabilities"]["add"] == ["CHOWN"]
            else:
                assert context["runAsNonRoot"] is True
                assert "add" not in context["capabilities"]


def test_only_node_info_may_ask_the_cluster_and_only_for_nodes(objects: list[Manifest]) -> None:
    (role,) = of_kind(objects, "rbac.authorization.k8s.io/v1 ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    (binding,) = of_kind(objects, "rbac.authorization.k8s.io/v1 ClusterRoleBinding")
    assert [(subject["kind"], subject["name"]) for subject in binding["subjects"]] == [("ServiceAccount", "node-info")]
    mounted = {
        workload["metadata"]["name"]
        for workload in workloads(objects)
        if (pod_of(workload) or {})["automountServiceAccountToken"] is not False
    }
    assert mounted == {"node-info"}


def test_kubernetes_sets_no_variables_of_its_own(objects: list[Manifest]) -> None:
    # A Service `node-info` would become NODE_INFO_PORT=tcp://..., which is a setting of ours.
    assert all((pod_of(workload) or {})["enableServiceLinks"] is False for workload in workloads(objects))


def test_nothing_is_allowed_that_no_policy_allows(objects: list[Manifest]) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in of_kind(objects, "networking.k8s.io/v1 NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (egress,) = policies["functions-to-nodes"]["egress"]
    ports = {*NODE_SERVICES.values(), NodeSettings().redis_port}
    assert {port["port"] for port in egress["ports"]} == ports
