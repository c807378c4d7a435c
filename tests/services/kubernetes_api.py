"""A small Kubernetes API for tests: lists of nodes in the form in which a real one answers, page by page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Request, Response

TOKEN = "token-of-node-info"


def node(name: str, kind: str | None = "Sat", host: str = "10.0.0.9", ready: str = "True") -> dict[str, Any]:
    """A Node as MicroK8s tells of it, shortened where nobody looks."""
    labels = {
        "kubernetes.io/arch": "arm64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "microk8s.io/cluster": "true",
    }
    moment = "2026-06-12T08:21:44Z"
    conditions = [
        {"type": condition, "status": value, "lastHeartbeatTime": moment, "lastTransitionTime": moment,
         "reason": reason, "message": reason}
        for condition, value, reason in [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("Ready", ready, "KubeletReady" if ready == "True" else "NodeStatusUnknown"),
        ]
    ]  # fmt: skip
    return {
        "metadata": {
            "name": name,
            "uid": f"5a0d1a0e-0000-4000-8000-{len(name):012d}",
            "resourceVersion": "48213",
            "creationTimestamp": "2026-06-01T10:00:00Z",
            "labels": {**labels, **({"node-type": kind} if kind else {})},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"podCIDR": "10.1.4.0/24"},
        "status": {
            "capacity": {"cpu": "4", "memory": "8144704Ki", "pods": "110"},
            "conditions": conditions,
            "addresses": [
                {"type": "Hostname", "address": name},
                *([{"type": "InternalIP", "address": host}] if host else []),
            ],
            "nodeInfo": {
                "machineID": "b1", "systemUUID": "b1", "bootID": "b1", "kernelVersion": "6.6.31",
                "osImage": "Ubuntu 24.04", "containerRuntimeVersion": "containerd://1.7.27",
                "kubeletVersion": "v1.33.1", "kubeProxyVersion": "", "operatingSystem": "linux",
                "architecture": "arm64",
            },
        },
    }  # fmt: skip


def _json(body: dict[str, Any], code: int = 200) -> Response:
    return Response(json.dumps(body), code, content_type="application/json")


def status(code: int, reason: str, message: str) -> Response:
    """What the API answers where it does not do what it was asked."""
    body = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": {"kind": "nodes"}, "code": code,
    }  # fmt: skip
    return _json(body, code)


UNAUTHORIZED = status(401, "Unauthorized", "Unauthorized")
FORBIDDEN = status(
    403,
    "Forbidden",
    'nodes is forbidden: User "system:serviceaccount:skylark:node-info" cannot list resource "nodes" in API group "" '
    "at the cluster scope",
)
EXPIRED = status(410, "Expired", "The provided continue parameter is too old to display a consistent list result.")


@dataclass
class Api:
    """Answers GET /api/v1/nodes with `nodes`; `failures` are answered first, one each, in place of a list."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Response] = field(default_factory=list)
    token: str = TOKEN
    requests: list[str] = field(default_factory=list)
    before: Callable[[Request], Response | None] = lambda request: None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.requests.append(request.full_path)
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if (answer := self.before(request)) is not None:
            return answer
        if self.failures:
            return self.failures.pop(0)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return UNAUTHORIZED
        assert (request.method, request.path) == ("GET", "/api/v1/nodes")
        begin, limit = int(request.args.get("continue", 0)), int(request.args.get("limit", 500))
        rest = len(self.nodes) - begin - limit
        more = {"continue": str(begin + limit), "remainingItemCount": rest} if rest > 0 else {}
        metadata = {"resourceVersion": "48213", **more}
        items = self.nodes[begin : begin + limit]
        return _json({"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": items})


def kubeconfig(path: Path, server: str) -> Path:
    """A file as KUBECONFIG names it."""
    path.write_text(
        f"""\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{server}"}}}}]
contexts: [{{name: test, context: {{cluster: test, user: node-info}}}}]
users: [{{name: node-info, user: {{token: {TOKEN}}}}}]
"""
    )
    return path
