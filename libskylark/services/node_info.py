"""node-info: who is in the constellation, what links them in which epoch, and what moves should keep to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import ValidationError

from libskylark.clock import Clock, SystemClock, Ticks
from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import Constellation, Objectives, read_constellation
from libskylark.election import EpochView
from libskylark.errors import SettingError, UnknownNode
from libskylark.metrics import new_registry
from libskylark.problem import CONTENT_TYPE as PROBLEM_TYPE
from libskylark.problem import problem
from libskylark.services.cluster import ClusterSettings, ClusterWatch, watch_cluster
from libskylark.services.metrics import node_info_metrics
from libskylark.services.presence import with_present
from libskylark.services.queries import answer_metrics, answer_problems, query_int
from libskylark.topology import Node


class NodeInfo:
    """The constellation as this node tells it; objectives can be changed while it runs.

    In a `cluster`, its nodes are those that Kubernetes has and says are ready (see presence.py).
    """

    def __init__(self, path: Path, settings: NodeSettings, clock: Clock, cluster: ClusterWatch | None = None) -> None:
        self.cluster = cluster
        self._path = path
        self._settings = settings
        self._clock = clock
        self._ticks = Ticks(settings.tick_s)
        self._objectives: Objectives | None = None
        self._constellation = read_constellation(path)

    @property
    def constellation(self) -> Constellation:
        return self._constellation

    @property
    def objectives(self) -> Objectives:
        return self._objectives or self._constellation.objectives

    @property
    def epoch(self) -> int:
        return self._ticks.epoch_at(self._clock.now_s())

    def refresh(self) -> None:
        """Reads the file again; raises DocumentError and keeps what it had where the file is faulty."""
        self._constellation = read_constellation(self._path)

    def set_objectives(self, given: Any) -> Objectives:
        """Takes `{"max_latency": ms, "min_bandwidth": Mbit/s}`, either may be left out; raises SettingError."""
        if not isinstance(given, dict):
            raise SettingError("objectives", given, "a JSON object with max_latency and min_bandwidth")
        names = {"max_latency": "max_latency_ms", "min_bandwidth": "min_bandwidth_mbps"}
        unknown = set(given) - set(names)
        if unknown:
            raise SettingError("objectives", sorted(unknown), f"only {' and '.join(names)}")
        changes = {names[name]: value for name, value in given.items()}
        try:
            self._objectives = Objectives.model_validate({**self.objectives.model_dump(), **changes})
        except ValidationError as error:
            fault = error.errors()[0]
            raise SettingError(str(fault["loc"][0]), fault["input"], fault["msg"]) from None
        return self._objectives

    def view(self, epoch: int) -> EpochView:
        described = self._constellation
        view = EpochView.of(described, epoch, self._settings.tick_s, self.objectives)
        if self.cluster is None or self.cluster.nodes is None:
            return view
        return with_present(view, described, self.cluster.nodes, self._settings.node)

    def node(self, name: str) -> dict[str, Any]:
        """A node, which may be absent; raises UnknownNode."""
        view = self.view(self.epoch)
        known: dict[str, Node] = {**view.topology.nodes, **{node.name: node for node in view.absent}}
        if name not in known:
            raise UnknownNode(name, list(known))
        return {"node_name": name, "node_ip": known[name].ip, "node_type": known[name].type}

    def local_node(self) -> dict[str, Any]:
        return self.node(self._settings.node)


def create_app(
    settings: NodeSettings | None = None, clock: Clock | None = None, cluster: ClusterWatch | None = None
) -> Flask:
    """The Flask application; raises SettingError without a constellation, DocumentError for a faulty one.

    The watch of the `cluster` is that of the environment unless it is given; `app.extensions` has it as "cluster".
    Threads do not survive a fork: make the application in the process that serves.
    """
    settings = settings or from_environment(NodeSettings)
    if settings.constellation is None:
        raise SettingError("SKYLARK_CONSTELLATION", "", "the path of a constellation.yaml")
    cluster = cluster or watch_cluster(from_environment(ClusterSettings))
    info = NodeInfo(settings.constellation, settings, clock or SystemClock(), cluster)
    app = Flask("node-info", static_folder=None)
    app.extensions["cluster"] = cluster
    answer_problems(app)
    _add_topology_routes(app, info)
    _add_node_routes(app, info)
    _add_metrics(app, settings.node)
    return app


def _add_metrics(app: Flask, node: str) -> None:
    registry = new_registry()
    count = node_info_metrics(registry, node)

    @app.after_request
    def counted(response: Response) -> Response:
        if request.url_rule is not None:  # of what is not there, any number of names may be asked for
            count(request.url_rule.rule)
        return response

    answer_metrics(app, registry)


def _add_topology_routes(app: Flask, info: NodeInfo) -> None:
    @app.get("/current-topology")
    def current_topology() -> ResponseReturnValue:
        return jsonify(info.view(query_int("epoch", info.epoch)).to_json())

    @app.get("/next-topology")
    def next_topology() -> ResponseReturnValue:
        return jsonify(info.view(query_int("epoch", info.epoch) + 1).to_json())

    @app.get("/static-topology")
    def static_topology() -> ResponseReturnValue:
        # The seeds' t is a minute of the rotation: an epoch number does as well.
        return jsonify(info.view(query_int("t", 0)).to_json())

    @app.get("/access")
    def access() -> ResponseReturnValue:
        epoch = query_int("epoch", info.epoch)
        constellation = info.constellation
        return jsonify(epoch=epoch, node=constellation.access(epoch), area=constellation.spec.area)


def _add_node_routes(app: Flask, info: NodeInfo) -> None:
    @app.get("/local-node-info")
    def local_node_info() -> ResponseReturnValue:
        return jsonify(info.local_node())

    @app.get("/cloud-node-info")
    def cloud_node_info() -> ResponseReturnValue:
        return jsonify(info.node(info.constellation.destination))

    @app.get("/objectives")
    def objectives() -> ResponseReturnValue:
        kept = info.objectives
        return jsonify(max_latency=kept.max_latency_ms, min_bandwidth=kept.min_bandwidth_mbps)

    @app.post("/objectives")
    def set_objectives() -> ResponseReturnValue:
        kept = info.set_objectives(request.get_json(force=True))
        return jsonify(max_latency=kept.max_latency_ms, min_bandwidth=kept.min_bandwidth_mbps)

    @app.route("/refresh", methods=["GET", "POST"])
    def refresh() -> ResponseReturnValue:
        info.refresh()
        return jsonify(status="refreshed", epoch=info.epoch)

    @app.get("/health")
    def health() -> ResponseReturnValue:
        return jsonify(status="alive", **info.local_node(), epoch=info.epoch)

    @app.get("/ready")
    def ready() -> ResponseReturnValue:
        """Ready too while the Kubernetes API is away, which a satellite often is: the notice tells of it."""
        cluster = info.cluster
        if cluster and not cluster.tried.is_set():
            return Response(problem(503, "the Kubernetes API has not answered yet"), 503, content_type=PROBLEM_TYPE)
        notice = {"notice": cluster.notice} if cluster and cluster.notice else {}
        return jsonify(status="alive", **info.local_node(), epoch=info.epoch, **notice)
