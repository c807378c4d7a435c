"""Knative's serving Service and SinkBinding as models: the fields that its API takes without further ado."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from libskylark.eventing.objects import Destination, Metadata, Model
from libskylark.eventing.values import NonEmpty

Labels = dict[str, str]
Entries = list[dict[str, Any]]


class TemplateMetadata(Model):
    labels: Labels | None = None
    annotations: Labels | None = None


class Port(Model):
    """Knative takes one port, with the name h2c, http1 or none."""

    container_port: Annotated[int, Field(ge=1, le=65535, alias="containerPort")]
    name: Literal["h2c", "http1"] | None = None
    protocol: Literal["TCP"] = "TCP"


class Container(Model):
    """What Knative lets through of a container."""

    name: NonEmpty
    image: NonEmpty
    command: list[str] | None = None
    args: list[str] | None = None
    ports: Annotated[list[Port], Field(max_length=1)] | None = None
    env: Entries | None = None
    env_from: Entries | None = Field(None, alias="envFrom")
    resources: dict[Literal["requests", "limits"], Labels] | None = None
    readiness_probe: dict[str, Any] | None = Field(None, alias="readinessProbe")
    liveness_probe: dict[str, Any] | None = Field(None, alias="livenessProbe")
    startup_probe: dict[str, Any] | None = Field(None, alias="startupProbe")
    security_context: dict[str, Any] | None = Field(None, alias="securityContext")
    volume_mounts: Entries | None = Field(None, alias="volumeMounts")


class RevisionSpec(Model):
    """`nodeSelector` needs the feature kubernetes.podspec-nodeselector, `fieldRef` kubernetes.podspec-fieldref."""

    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: Entries | None = None
    container_concurrency: Annotated[int, Field(ge=0, le=1000)] = Field(0, alias="containerConcurrency")
    timeout_seconds: Annotated[int, Field(ge=0, le=600)] = Field(300, alias="timeoutSeconds")
    automount_token: bool | None = Field(None, alias="automountServiceAccountToken")
    service_links: bool | None = Field(None, alias="enableServiceLinks")
    node_selector: Labels | None = Field(None, alias="nodeSelector")


class Template(Model):
    metadata: TemplateMetadata = TemplateMetadata()
    spec: RevisionSpec


class ServiceSpec(Model):
    template: Template


class KnativeService(Model):
    api_version: Literal["serving.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


class SinkBindingSpec(Model):
    subject: dict[Literal["apiVersion", "kind", "name"], str]
    sink: Destination


class SinkBinding(Model):
    api_version: Literal["sources.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["SinkBinding"]
    metadata: Metadata
    spec: SinkBindingSpec
