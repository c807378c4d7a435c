"""What a process of a node is told: constructor arguments, filled from the environment and validated at start."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from libskylark.errors import SettingError

NODE_INFO_PORT: Final = 8080
ELECT_PORT: Final = 8081
BROKER_PORT: Final = 8090
REDIS_PORT: Final = 36379

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration_s(value: Any) -> float:
    """Seconds of `2s`, `500ms`, `1.5m`, `1h`, or a bare number of seconds; raises ValueError."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("expected a duration such as 500ms, 2s or 1m")
    return float(match["number"]) * _UNIT_S[match["unit"] or "s"]


def _is_token(token: SecretStr | None) -> SecretStr | None:
    if token is not None and not re.fullmatch(r"[!-~]{16,1024}", token.get_secret_value()):
        raise ValueError("expected 16 to 1024 printable ASCII characters without spaces")
    return token


Seconds = Annotated[float, BeforeValidator(parse_duration_s), Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


def is_http_url(url: str) -> str:
    """`url` as it is; raises ValueError where it is no address over HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    return url


Token = Annotated[SecretStr | None, AfterValidator(_is_token)]
PolicyName = Literal["skylark", "random", "stateless"]

Settings = TypeVar("Settings", bound=BaseModel)


class NodeSettings(BaseModel):
    """Where a process is and whom it talks to; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    node: str = Field(
        default="local",
        validation_alias="NODE_NAME",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The node that the process is on, as the constellation names it.",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias="LOCAL_NODE_HOST",
        min_length=1,
        description="That node's address: where its Redis, elect, node-info and broker are.",
    )
    elect_port: Port = Field(
        default=ELECT_PORT, validation_alias="SKYLARK_ELECT_PORT", description="Where elect listens, on every node."
    )
    node_info_port: Port = Field(
        default=NODE_INFO_PORT, validation_alias="NODE_INFO_PORT", description="Where node-info listens."
    )
    broker_port: Port = Field(
        default=BROKER_PORT, validation_alias="SKYLARK_BROKER_PORT", description="Where the embedded broker listens."
    )
    redis_port: Port = Field(
        default=REDIS_PORT, validation_alias="SKYLARK_REDIS_PORT", description="Where every node's Redis listens."
    )
    redis_password: SecretStr | None = Field(
        default=None, validation_alias="SKYLARK_REDIS_PASSWORD", description="The password of every node's Redis."
    )
    redis_fsync: Literal["everysec", "always"] = Field(
        default="everysec",
        validation_alias="SKYLARK_REDIS_FSYNC",
        description="When what Redis has written must be on the disk: within a second, or before each answer.",
    )
    # Knative's SinkBinding tells a process in a cluster where events go; elsewhere it is the node's own broker.
    sink: Annotated[str, AfterValidator(is_http_url)] | None = Field(
        default=None,
        validation_alias="K_SINK",
        description="Where elect and the function `client` send events of their own; unset, the node's broker.",
    )
    broker_token: Token = Field(
        default=None,
        validation_alias="SKYLARK_BROKER_TOKEN",
        description="What every broker demands of its senders as `Authorization: Bearer TOKEN`, and sends to others.",
    )
    tick_s: Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0.5)] = Field(
        default=60.0,
        validation_alias="SKYLARK_TICK",
        description="The length of an epoch; `skylark up --tick` sets it.",
    )
    policy: PolicyName = Field(
        default="skylark",
        validation_alias="SKYLARK_POLICY",
        description="How elect chooses the node for the next function.",
    )
    inline_limit_bytes: int = Field(
        default=4096,
        validation_alias="SKYLARK_INLINE_LIMIT_BYTES",
        ge=0,
        le=6144,
        description="State up to this size, as sent, travels inside the event; 0 for none.",
    )
    state_ttl_s: Seconds = Field(
        default=900.0,
        validation_alias="SKYLARK_STATE_TTL",
        description="How long a chain's state is kept, and the `expirytime` of its first event.",
    )
    duplicate_window_s: Seconds = Field(
        default=600.0,
        validation_alias="SKYLARK_DUPLICATE_WINDOW",
        description="How long a function knows an event again, and answers it as it did before.",
    )
    store_timeout_s: Seconds = Field(
        default=2.0, validation_alias="SKYLARK_STORE_TIMEOUT", description="How long a Redis may take to answer."
    )
    push_wait_s: Seconds = Field(
        default=2.0,
        validation_alias="SKYLARK_PUSH_WAIT",
        description="How long a reader waits for state that is on its way to this node before it fetches it.",
    )
    move_timeout_s: Seconds = Field(
        default=30.0,
        validation_alias="SKYLARK_MOVE_TIMEOUT",
        description="How long one value may take over a link before the move is tried again.",
    )
    elect_timeout_s: Seconds = Field(
        default=0.5,
        validation_alias="SKYLARK_ELECT_TIMEOUT",
        description="How long a function waits for elect; then its state stays where it is.",
    )
    probe_period_s: Seconds = Field(
        default=2.0,
        validation_alias="SKYLARK_PROBE_PERIOD",
        description="How often elect asks the other nodes whether they are there.",
    )
    constellation: Path | None = Field(
        default=None,
        validation_alias="SKYLARK_CONSTELLATION",
        description="The file with nodes, links, rotation and placement; `skylark up` sets it.",
    )

    @property
    def password(self) -> str | None:
        """The password of every node's Redis, in clear: for a client, not for a log."""
        return self.redis_password.get_secret_value() if self.redis_password else None

    @property
    def token(self) -> str | None:
        """What every node's broker demands of its senders, in clear: for a request, not for a log."""
        return self.broker_token.get_secret_value() if self.broker_token else None


def from_environment(model: type[Settings], environment: Mapping[str, str] | None = None) -> Settings:
    """`model` from the environment variables that its aliases name; unset and empty ones take the default.

    Raises SettingError with the variable's name, its value, and what would be right.
    """
    environment = os.environ if environment is None else environment
    aliases = [str(field.validation_alias) for field in model.model_fields.values() if field.validation_alias]
    given = {alias: environment[alias] for alias in aliases if environment.get(alias)}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else model.__name__
        value = "(hidden)" if "PASSWORD" in key or "TOKEN" in key else given.get(key)
        raise SettingError(key, value, first["msg"].removeprefix("Value error, ").removeprefix("expected ")) from None
