"""What a cluster needs for each node of a constellation beside Triggers: Services, addresses and protection.

The names here (of the Secret, the ConfigMaps, the labels) are those of deployment/base.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from libskylark.constellation import Constellation
from libskylark.errors import ConfigError
from libskylark.placement import NODE_SERVICES

Manifest = dict[str, Any]

#: The placeholder that the one `images:` entry of deployment/common replaces.
IMAGE: Final = "skylark"
SETTINGS: Final = "skylark-settings"
SECRET: Final = {"name": "skylark-redis", "key": "password"}
NODE_LABEL: Final = "skylark.dev/node"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"

#: Events that one pod handles at a time: gunicorn's threads in it.
CONCURRENCY: Final = 4
#: Pods of one function on one node; more only fight for the node's few cores.
MOST_PODS: Final = 2

# What the API server takes as the name of a Service.
_SERVICE_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST_RETENTION_S: Final = 3600.0  # Knative's own limit
# A function works in memory; the root file system is read-only.
_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def check_names(constellation: Constellation) -> None:
    """Raises ConfigError for a Service that Kubernetes would refuse for its name."""
    services = [*constellation.functions.items(), *((name, None) for name in NODE_SERVICES)]
    for function, spec in services:
        for node in spec.nodes if spec else constellation.nodes:
            if not _SERVICE_NAME.fullmatch(name := f"{node}-{function}"):
                raise ConfigError(
                    f"Service {name!r}: expected at most 63 lower-case letters, digits and '-', with a letter first; "
                    "choose another name for the node or the function"
                )


def knative_services(constellation: Constellation, function: str) -> Iterator[Manifest]:
    """The Service of a function on each of its nodes, and for one that only sends, the address of the Broker."""
    spec = constellation.functions[function]
    for node in spec.nodes:
        yield _knative_service(constellation, node, function, spec.port or 0)
        if not spec.consumes:
            yield _sink_binding(node, function)


def elect_services(constellation: Constellation) -> Iterator[Manifest]:
    """An address for the elect of each node, so that each gets its own tick."""
    for node in constellation.nodes.values():
        spec: Manifest = {"ports": [{"name": "http", "port": 80, "targetPort": NODE_SERVICES["elect"]}]}
        name = f"{node.name}-elect"
        if len(constellation.nodes) == 1:
            # The only elect there is: nobody has to know the address of its node.
            spec = {"selector": {COMPONENT_LABEL: "elect"}, **spec}
        yield _object("v1", "Service", name, _labels(node.name, "elect"), spec)
        if len(constellation.nodes) > 1:
            yield _endpoint_slice(name, node.name, node.ip)


def disruption_budgets(constellation: Constellation) -> Iterator[Manifest]:
    """At most one node's Redis, and one elect, are evicted at a time; nothing for a node that is alone.

    Draining a node evicts no pod of a DaemonSet; autoscalers and deschedulers do, and they ask. Only `minAvailable` as
    a number works for DaemonSets, which have no scale; hence the constellation's size. Functions have no budget: their
    pods are tied to a node and scale to zero, so that a budget would keep the node from ever being drained.
    """
    least = len(constellation.nodes) - 1
    for component in ("redis", "elect") if least else ():
        spec = {"minAvailable": least, "selector": {"matchLabels": {COMPONENT_LABEL: component}}}
        yield _object("policy/v1", "PodDisruptionBudget", component, {COMPONENT_LABEL: component}, spec)


def constellation_generator(constellation: Constellation, file: str) -> Manifest:
    """The entry of a kustomization that makes the ConfigMap which node-info reads, and with it the length of a tick."""
    return {"name": "constellation", "files": [file], "literals": [f"SKYLARK_TICK={_tick(constellation)}"]}


def _knative_service(constellation: Constellation, node: str, function: str, port: int) -> Manifest:
    # Warm from one tick to the next, although a satellite works only at some of them.
    retention_s = min(1.5 * constellation.spec.tick, _LONGEST_RETENTION_S)
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "containerConcurrency": CONCURRENCY,
        "enableServiceLinks": False,  # Kubernetes would set variables such as NODE_INFO_PORT to addresses
        "timeoutSeconds": 120,
        "containers": [_container(constellation, node, function, port)],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }
    if len(constellation.nodes) > 1:
        pod["nodeSelector"] = {"kubernetes.io/hostname": node}
    annotations = {
        "autoscaling.knative.dev/min-scale": "0",
        "autoscaling.knative.dev/max-scale": str(MOST_PODS),
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": f"{retention_s:g}s",
    }
    labels = _labels(node, function)
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}
    # Events come through the Broker; nobody outside of the cluster is to call a function.
    visible = {**labels, "networking.knative.dev/visibility": "cluster-local"}
    return _object("serving.knative.dev/v1", "Service", f"{node}-{function}", visible, {"template": template})


def _container(constellation: Constellation, node: str, function: str, port: int) -> Manifest:
    return {
        "name": "function",
        "image": IMAGE,
        "args": [function.replace("-", "_")],  # the folder under functions/
        "ports": [{"containerPort": port}],
        "envFrom": [{"configMapRef": {"name": SETTINGS}}],
        "env": [
            {"name": "NODE_NAME", "value": node},
            {"name": "LOCAL_NODE_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "SKYLARK_TICK", "value": _tick(constellation)},
            {"name": "SKYLARK_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": dict(SECRET)}},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready"}, "timeoutSeconds": 3},
        "livenessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "160Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": _SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  a volume of its own, in memory
    }


def _sink_binding(node: str, function: str) -> Manifest:
    name = f"{node}-{function}"
    spec = {
        "subject": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": name},
        "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
    }
    return _object("sources.knative.dev/v1", "SinkBinding", name, _labels(node, function), spec)


def _endpoint_slice(service: str, node: str, address: str) -> Manifest:
    labels = {
        **_labels(node, "elect"),
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "skylark-render",
    }
    head = _object("discovery.k8s.io/v1", "EndpointSlice", service, labels)
    return {
        **head,
        "addressType": f"IPv{ipaddress.ip_address(address).version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "nodeName": node}],
        "ports": [{"name": "http", "port": NODE_SERVICES["elect"], "protocol": "TCP"}],
    }


def _labels(node: str, component: str) -> dict[str, str]:
    return {COMPONENT_LABEL: component, NODE_LABEL: node}


def _tick(constellation: Constellation) -> str:
    return f"{constellation.spec.tick:g}s"


def _object(
    api_version: str, kind: str, name: str, labels: Mapping[str, str], spec: Manifest | None = None
) -> Manifest:
    head: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}}
    return head if spec is None else {**head, "spec": spec}
