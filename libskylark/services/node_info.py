"""node-info: who is in the constellation, what links them in which epoch, and what moves should keep to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import ValidationError

from libskylark.clock import Clock, SystemClock, Ticks
from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import Constellation, Objectives, read_constellation
from libskylark.election import EpochView
from libskylark.errors import SettingError
from libskylark.services.queries import answer_problems, query_int


class NodeInfo:
    """The constellation as this node tells it; objectives can be changed while it runs."""

    def __init__(self, path: Path, settings: NodeSettings, clock: Clock) -> None:
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
        return EpochView.of(self._constellation, epoch, self._settings.tick_s, self.objectives)

    def node(self, name: str) -> dict[str, Any]:
        node = self.view(self.epoch).topology.node(name)
        return {"node_name": node.name, "node_ip": node.ip, "node_type": node.type}

    def local_node(self) -> dict[str, Any]:
        return self.node(self._settings.node)


def create_app(settings: NodeSettings | None = None, clock: Clock | None = None) -> Flask:
    """The Flask application; raises SettingError without a constellation, DocumentError for a faulty one."""
    settings = settings or from_environment(NodeSettings)
    if settings.constellation is None:
        raise SettingError("SKYLARK_CONSTELLATION", "", "the path of a constellation.yaml")
    info = NodeInfo(settings.constellation, settings, clock or SystemClock())
    app = Flask("node-info", static_folder=None)
    answer_problems(app)
    _add_topology_routes(app, info)
    _add_node_routes(app, info)
    return app


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
    @app.get("/ready")
    def health() -> ResponseReturnValue:
        return jsonify(status="alive", **info.local_node(), epoch=info.epoch)
