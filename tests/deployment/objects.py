"""Looking things up among the objects that a kustomization builds."""

from __future__ import annotations

from typing import Any

from tests.deployment.kustomize import Manifest, containers, pod_of


def kind_of(manifest: Manifest) -> str:
    return f"{manifest['apiVersion']} {manifest['kind']}"


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in objects if kind_of(manifest) == kind]


def knative_services(objects: list[Manifest]) -> list[Manifest]:
    return of_kind(objects, "serving.knative.dev/v1 Service")


def daemon_sets(objects: list[Manifest]) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in of_kind(objects, "apps/v1 DaemonSet")}


def workloads(objects: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in objects if pod_of(manifest)]


def component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def environment(workload: Manifest) -> list[dict[str, Any]]:
    return [entry for container in containers(workload) for entry in container.get("env", [])]
