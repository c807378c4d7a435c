"""Every object of every overlay: valid, wired to what exists, and in agreement with constellation.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest

from libskylark.config import NodeSettings
from libskylark.constellation import Constellation
from libskylark.eventing.objects import Broker, Model, Trigger
from libskylark.eventing.sources import PingSource
from libskylark.placement import NODE_SERVICES
from libskylark.services.cluster import ClusterSettings
from libskylark.serving import ServingSettings
from tests.deployment.conftest import DEPLOYMENT
from tests.deployment.knative import KnativeService, SinkBinding
from tests.deployment.kustomize import Manifest, containers, identity, pod_of, read
from tests.deployment.objects import component, daemon_sets, environment, kind_of, knative_services, of_kind, workloads

KUBERNETES: Final = "1.37"
MODELS: Final[dict[str, type[Model]]] = {
    "eventing.knative.dev/v1 Broker": Broker,
    "eventing.knative.dev/v1 Trigger": Trigger,
    "sources.knative.dev/v1 PingSource": PingSource,
    "sources.knative.dev/v1 SinkBinding": SinkBinding,
    "serving.knative.dev/v1 Service": KnativeService,
}
#: Of an engine's own API, without a model: they are named here so that nothing else goes unchecked.
UNCHECKED: Final = {"eventing.knative.dev/v1alpha1 RabbitmqBrokerConfig"}

NODE_SERVICE_SETS: Final = {"node-info", "elect", "redis"}


def test_every_object_is_valid(objects: list[Manifest]) -> None:
    for manifest in objects:
        kind = kind_of(manifest)
        if model := MODELS.get(kind):
            model.model_validate(manifest)
        elif kind not in UNCHECKED:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_schemas_refuse_what_is_wrong(objects: list[Manifest]) -> None:
    service = knative_services(objects)[0]
    with pytest.raises(ValueError, match="hostNetwork"):
        KnativeService.model_validate(
            {**service, "spec": {"template": {"spec": {**(pod_of(service) or {}), "hostNetwork": True}}}}
        )
    daemon_set = daemon_sets(objects)["redis"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**daemon_set, "spec": {**daemon_set["spec"], "replicas": 3}}, KUBERNETES, True)


def test_all_is_in_one_namespace(objects: list[Manifest]) -> None:
    assert {m["metadata"].get("namespace", "skylark") for m in objects} == {"skylark"}
    (binding,) = of_kind(objects, "rbac.authorization.k8s.io/v1 ClusterRoleBinding")
    assert binding["subjects"][0]["namespace"] == "skylark"


def test_every_subscriber_and_every_sink_exists(objects: list[Manifest]) -> None:
    there = {identity(manifest) for manifest in objects}
    references = list(destinations(objects))
    assert len(references) > 5
    for reference in references:
        assert (reference["apiVersion"], reference["kind"], reference["name"]) in there
        assert "namespace" not in reference  # it would stay as it is when kustomize sets the namespace
    broker_names = {trigger["spec"]["broker"] for trigger in of_kind(objects, "eventing.knative.dev/v1 Trigger")}
    assert broker_names == {"default"}


def destinations(objects: list[Manifest]) -> Iterator[dict[str, str]]:
    for manifest in objects:
        for field in ("subscriber", "sink"):
            if field in (manifest.get("spec") or {}):
                yield manifest["spec"][field]["ref"]
        if manifest["kind"] == "SinkBinding":
            yield manifest["spec"]["subject"]
        if manifest["kind"] == "Broker":
            yield manifest["spec"]["config"]


def test_every_function_has_its_service_on_each_of_its_nodes(
    objects: list[Manifest], constellation: Constellation
) -> None:
    expected = {
        f"{node}-{name}": (node, name, spec.port)
        for name, spec in constellation.functions.items()
        for node in spec.nodes
    }
    found = {}
    for service in knative_services(objects):
        (container,) = containers(service)
        node = {entry["name"]: entry.get("value") for entry in container["env"]}["NODE_NAME"]
        function = container["args"][0].replace("_", "-")
        found[service["metadata"]["name"]] = (node, function, container["ports"][0]["containerPort"])
    assert found == expected


def test_names_ports_and_labels_are_those_that_the_constellation_locates(
    objects: list[Manifest], constellation: Constellation
) -> None:
    for service in knative_services(objects):
        name, labels = service["metadata"]["name"], service["metadata"]["labels"]
        endpoint = constellation.locate(name, constellation.destination)
        assert (labels["skylark.dev/node"], component(service)) == (endpoint.node, endpoint.function)
        assert next(containers(service))["ports"] == [{"containerPort": endpoint.port}]
        selector = (pod_of(service) or {}).get("nodeSelector")
        alone = len(constellation.nodes) == 1
        assert selector == (None if alone else {"kubernetes.io/hostname": endpoint.node})
        # 8012, 8013, 8022, 8112 and 9090, 9091 are the queue-proxy's, which shares the pod.
        assert endpoint.port not in {8012, 8013, 8022, 8112, 9090, 9091}


def test_every_elect_has_an_address_of_its_own(objects: list[Manifest], constellation: Constellation) -> None:
    services = {manifest["metadata"]["name"]: manifest["spec"] for manifest in of_kind(objects, "v1 Service")}
    assert set(services) == {"elect", *(f"{node}-elect" for node in constellation.nodes)}
    for spec in services.values():
        assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(80, NODE_SERVICES["elect"])]
    slices = of_kind(objects, "discovery.k8s.io/v1 EndpointSlice")
    addressed = {entry["metadata"]["labels"]["kubernetes.io/service-name"]: entry for entry in slices}
    for node in constellation.nodes.values():
        name = f"{node.name}-elect"
        if "selector" in services[name]:
            assert len(constellation.nodes) == 1
            assert name not in addressed
        else:
            assert addressed[name]["endpoints"][0]["addresses"] == [node.ip]
            assert [port["port"] for port in addressed[name]["ports"]] == [NODE_SERVICES["elect"]]


def test_selectors_select_the_pods_that_they_mean(objects: list[Manifest]) -> None:
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(objects)]
    selectors = [m["spec"]["selector"] for m in of_kind(objects, "v1 Service") if "selector" in m["spec"]]
    selectors += [m["spec"]["selector"]["matchLabels"] for m in of_kind(objects, "policy/v1 PodDisruptionBudget")]
    selectors += [m["spec"]["selector"]["matchLabels"] for m in daemon_sets(objects).values()]
    for selector in selectors:
        assert sum(selector.items() <= labels.items() for labels in pods) == 1


def test_node_services_have_the_ports_of_the_contract(objects: list[Manifest]) -> None:
    ports = {**NODE_SERVICES, "redis": NodeSettings().redis_port}
    sets = daemon_sets(objects)
    assert set(sets) == NODE_SERVICE_SETS
    for name, manifest in sets.items():
        assert (pod_of(manifest) or {})["hostNetwork"] is True
        (container,) = (pod_of(manifest) or {})["containers"]
        assert [port["containerPort"] for port in container["ports"]] == [ports[name]]


def test_at_most_one_node_of_the_constellation_is_evicted_at_a_time(
    objects: list[Manifest], constellation: Constellation
) -> None:
    budgets = of_kind(objects, "policy/v1 PodDisruptionBudget")
    expected = [] if len(constellation.nodes) == 1 else [len(constellation.nodes) - 1] * 2
    assert [budget["spec"]["minAvailable"] for budget in budgets] == expected


def test_the_tick_is_as_long_as_the_constellation_says(objects: list[Manifest], constellation: Constellation) -> None:
    (tick,) = of_kind(objects, "sources.knative.dev/v1 PingSource")
    assert (tick["spec"]["schedule"], constellation.spec.tick) == ("* * * * *", 60.0)


def test_every_config_map_and_every_key_that_a_pod_reads_is_there(objects: list[Manifest]) -> None:
    maps = {m["metadata"]["name"]: set(m["data"]) for m in of_kind(objects, "v1 ConfigMap")}
    for workload in workloads(objects):
        for container in containers(workload):
            for entry in container.get("envFrom", []):
                assert entry["configMapRef"]["name"] in maps
            for entry in container.get("env", []):
                if reference := entry.get("valueFrom", {}).get("configMapKeyRef"):
                    assert reference["key"] in maps[reference["name"]]
        for volume in (pod_of(workload) or {}).get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps


def test_settings_are_ones_that_a_process_reads(objects: list[Manifest]) -> None:
    models = (NodeSettings, ClusterSettings, ServingSettings)
    known = {str(field.validation_alias) for model in models for field in model.model_fields.values()}
    (settings,) = (m for m in of_kind(objects, "v1 ConfigMap") if m["metadata"]["name"] == "skylark-settings")
    names = set(settings["data"])
    for workload in workloads(objects):
        if workload["metadata"]["name"] != "redis":
            names |= {entry["name"] for container in containers(workload) for entry in container.get("env", [])}
    assert names <= known


def test_node_info_asks_the_cluster_but_where_the_only_node_has_another_name(
    overlay: str, objects: list[Manifest]
) -> None:
    names = {entry["name"]: entry for entry in environment(daemon_sets(objects)["node-info"])}
    if overlay == "local":
        assert (names["SKYLARK_NODES"]["value"], names["NODE_NAME"]["value"]) == ("file", "local")
    else:
        assert "SKYLARK_NODES" not in names
        assert names["NODE_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_images_are_named_in_one_place(objects: list[Manifest]) -> None:
    (common,) = read(DEPLOYMENT / "common/kustomization.yaml")
    chosen = {f"{image['newName']}:{image['newTag']}" for image in common["images"]}
    assert {container["image"] for workload in workloads(objects) for container in containers(workload)} == chosen
    others = [path for path in DEPLOYMENT.rglob("kustomization.yaml") if path.parent.name != "common"]
    assert not any("images" in document for path in others for document in read(path))


def test_brokers_are_of_the_class_that_the_overlay_is_called_after(overlay: str, objects: list[Manifest]) -> None:
    (broker,) = of_kind(objects, "eventing.knative.dev/v1 Broker")
    classes = {"kafka": "Kafka", "rabbitmq": "RabbitMQBroker"}
    found = broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"]
    assert found == classes.get(overlay, "MTChannelBasedBroker")
    (default,) = read(Path(DEPLOYMENT.parent / "brokers/default.yaml"))
    assert broker["spec"]["delivery"] == default["spec"]["delivery"]


def test_a_pod_gets_as_many_events_at_a_time_as_it_has_threads(objects: list[Manifest]) -> None:
    threads = ServingSettings().threads
    assert all((pod_of(service) or {})["containerConcurrency"] == threads for service in knative_services(objects))
