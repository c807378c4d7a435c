"""The lab's relay as a process: its configuration, the service that controls it, and the lab's end of that."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import requests
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libskylark.config import from_environment
from libskylark.constellation import NotNegative, Positive, read_constellation
from libskylark.errors import LabError, SettingError
from libskylark.lab.links import CutMode, Figures, Hop, Reroute, Scope
from libskylark.lab.listening import Door
from libskylark.lab.relay import LinkRelay
from libskylark.metrics import new_registry
from libskylark.services.queries import answer_metrics, answer_problems

#: The environment variable with the path of the process's LinkConfig.
VARIABLE: Final = "SKYLARK_LINKS"
PORT: Final = 8070
APP: Final = "libskylark.lab.link_server:create_app()"

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class LinkConfig:
    """What the process relays, and the constellation whose topology it follows every `tick_s` seconds."""

    constellation: Path
    tick_s: float
    doors: tuple[Door, ...]

    def write(self, path: Path) -> None:
        content = {**asdict(self), "constellation": str(self.constellation)}
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> LinkConfig:
        content = json.loads(path.read_text(encoding="utf-8"))
        doors = tuple(Door(**door) for door in content["doors"])
        return cls(Path(content["constellation"]), content["tick_s"], doors)


class LinkSettings(BaseModel):
    """How links behave; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    seed: int = Field(
        default=0, validation_alias="SKYLARK_LINKS_SEED", ge=0, description="Equal seeds draw equal jitter."
    )
    reroute: Reroute = Field(
        default="survive",
        validation_alias="SKYLARK_LINKS_REROUTE",
        description="Whether connections survive a change of their route, or are reset.",
    )
    no_route: CutMode = Field(
        default="reset",
        validation_alias="SKYLARK_LINKS_NO_ROUTE",
        description="What befalls connections of nodes that no path joins: `silent` is told to nobody.",
    )


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _PartRequest(_Request):
    a: str
    b: str
    scope: Scope = "pair"


class _CutRequest(_PartRequest):
    mode: CutMode = "silent"


class _SetRequest(_PartRequest):
    latency_ms: NotNegative = 0.0
    jitter_ms: NotNegative = 0.0
    bandwidth_mbps: Positive | None = None  # unlimited, as JSON has no infinity

    def figures(self) -> Figures:
        return Figures(self.latency_ms, self.jitter_ms, self.bandwidth_mbps or math.inf)


Asked = TypeVar("Asked", bound=_Request)


def create_app(environment: Mapping[str, str] | None = None) -> Flask:
    """The control service, with the relay running beside it in this process: ready when every door is open.

    A relay that is restarted begins anew: cuts and figures that were set by hand are gone.
    Raises SettingError without a configuration and for a wrong setting, LabError where an address cannot be used.
    """
    settings = from_environment(LinkSettings, environment)
    path = (os.environ if environment is None else environment).get(VARIABLE)
    if not path:
        raise SettingError(VARIABLE, path, "the path of the lab's link configuration")
    config = LinkConfig.read(Path(path))
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a door has a socket, a connection two
    relay = LinkRelay(settings.seed, settings.reroute, settings.no_route)
    relay.start()  # until the process ends
    for door in config.doors:
        relay.open(door.source, door.target, door.host, door.port, door.at)
    relay.follow_ticks(read_constellation(config.constellation), config.tick_s)
    return control_app(relay)


def control_app(relay: LinkRelay) -> Flask:
    """GET /ready, /metrics, /pairs, /links, /carried; POST /cut, /heal, /heal-all, /set, /unset with a JSON object."""
    app = Flask("links", static_folder=None)
    answer_problems(app)
    answer_metrics(app, new_registry())

    @app.get("/ready")
    def ready() -> ResponseReturnValue:
        return jsonify(status="ready")

    @app.get("/pairs")
    def pairs() -> ResponseReturnValue:
        return jsonify(relay.status())

    @app.get("/links")
    def links() -> ResponseReturnValue:
        return jsonify(relay.links())

    @app.get("/carried")
    def carried() -> ResponseReturnValue:
        return jsonify([[*hop, carried_bytes] for hop, carried_bytes in relay.carried_bytes().items()])

    @app.post("/cut")
    def cut() -> ResponseReturnValue:
        asked = _asked(_CutRequest)
        relay.cut(asked.a, asked.b, asked.mode, asked.scope)
        return jsonify(status="cut")

    @app.post("/heal")
    def heal() -> ResponseReturnValue:
        asked = _asked(_PartRequest)
        relay.heal(asked.a, asked.b, asked.scope)
        return jsonify(status="healed")

    @app.post("/heal-all")
    def heal_all() -> ResponseReturnValue:
        relay.heal_all()
        return jsonify(status="healed")

    @app.post("/set")
    def set_figures() -> ResponseReturnValue:
        asked = _asked(_SetRequest)
        relay.set(asked.a, asked.b, asked.figures(), asked.scope)
        return jsonify(status="set")

    @app.post("/unset")
    def unset() -> ResponseReturnValue:
        asked = _asked(_PartRequest)
        relay.unset(asked.a, asked.b, asked.scope)
        return jsonify(status="unset")

    return app


def _asked(model: type[Asked]) -> Asked:
    try:
        return model.model_validate_json(request.data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "request"
        raise SettingError(name, first["input"], first["msg"]) from None


class LabLinks:
    """The links of a running lab, by the `url` of its relay's control service.

    What is asked for holds when a call returns. Raises LabError where the relay refuses, or does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def cut(self, a: str, b: str, mode: CutMode = "silent", scope: Scope = "pair") -> None:
        """Let nothing pass between two nodes, or over the link between two neighbours, until `heal`; see LinkRelay."""
        self._ask("POST", "/cut", a=a, b=b, mode=mode, scope=scope)

    def heal(self, a: str, b: str, scope: Scope = "pair") -> None:
        self._ask("POST", "/heal", a=a, b=b, scope=scope)

    def heal_all(self) -> None:
        self._ask("POST", "/heal-all")

    def set(self, a: str, b: str, figures: Figures, scope: Scope = "pair") -> None:
        """Give two nodes, whatever their route, or a link these figures; until `unset`."""
        self._ask("POST", "/set", a=a, b=b, scope=scope, **figures.to_json())

    def unset(self, a: str, b: str, scope: Scope = "pair") -> None:
        """Back to the figures of the topology."""
        self._ask("POST", "/unset", a=a, b=b, scope=scope)

    def status(self) -> list[dict[str, Any]]:
        """Every pair, as LinkRelay.status gives it."""
        found: list[dict[str, Any]] = self._ask("GET", "/pairs")
        return found

    def links(self) -> list[dict[str, Any]]:
        """Every link, as LinkRelay.links gives it."""
        found: list[dict[str, Any]] = self._ask("GET", "/links")
        return found

    def carried_bytes(self) -> dict[Hop, int]:
        """What each link has carried since the relay began, by direction."""
        return {(a, b): carried for a, b, carried in self._ask("GET", "/carried")}

    def _ask(self, method: str, path: str, **content: object) -> Any:
        try:
            answer = requests.request(method, self._url + path, json=content or None, timeout=_TIMEOUT_S)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise LabError(f"the relay at {self._url} did not answer: {error}") from None
        if not answer.ok:
            raise LabError(str(body["detail"]))
        return body
