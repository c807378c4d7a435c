"""The nodes of a Kubernetes cluster: listed now and then in the background, and kept while the API is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from libskylark.config import Seconds
from libskylark.errors import ClusterError, SettingError
from libskylark.topology import NODE_TYPES, NodeType

if TYPE_CHECKING:
    from lightkube import Client

log = logging.getLogger("skylark.cluster")

TYPE_LABEL: Final = "node-type"
EXTRA: Final = "pip install 'skylark-functions[kubernetes]'"

_LISTING_RULE: Final = '{apiGroups: [""], resources: ["nodes"], verbs: ["list"]}'
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_AT_ONCE: Final = 500  # nodes of one answer: the API hands out more page by page
_GONE: Final = 410  # the next page of a list that is too old by now


class ClusterSettings(BaseModel):
    """Where node-info takes its nodes from; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    source: Literal["auto", "cluster", "file"] = Field(
        default="auto",
        validation_alias="SKYLARK_NODES",
        description="Where nodes come from: the Kubernetes API or the file; `auto` takes the API in a cluster.",
    )
    api_host: str = Field(
        default="",
        validation_alias="KUBERNETES_SERVICE_HOST",
        description="Set by Kubernetes in every container; `auto` goes by it.",
    )
    period_s: Seconds = Field(
        default=15.0,
        validation_alias="SKYLARK_CLUSTER_PERIOD",
        description="How often the cluster's nodes are listed.",
    )
    timeout_s: Seconds = Field(
        default=5.0,
        validation_alias="SKYLARK_CLUSTER_TIMEOUT",
        description="How long the Kubernetes API may take to answer.",
    )

    @property
    def in_cluster(self) -> bool:
        """Whether the Kubernetes API says which nodes there are."""
        return self.source == "cluster" or (self.source == "auto" and bool(self.api_host))


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node as the Kubernetes API tells of it.

    `node_type` is its label `node-type`, None where that is missing or no type of ours; `host` its InternalIP
    address, empty where it has none.
    """

    name: str
    node_type: NodeType | None
    host: str
    ready: bool


class Lists(Protocol):
    """What lists the nodes of a cluster (see ClusterNodes)."""

    def list_nodes(self) -> list[ClusterNode]: ...


class ClusterNodes:
    """Lists nodes through the Kubernetes API.

    Within a cluster as the pod's service account, else as kubectl would by KUBECONFIG or ~/.kube/config. Raises
    SettingError where the client `lightkube` is not installed.
    """

    def __init__(self, timeout_s: float = 5.0, account: Path = _ACCOUNT, at_once: int = _AT_ONCE) -> None:
        try:
            import lightkube  # noqa: F401  of use in a cluster only, and none of the quickest to import
        except ImportError:
            expected = f"file, or the extra with the Kubernetes client: {EXTRA}"
            raise SettingError("SKYLARK_NODES", "cluster", expected) from None
        self._timeout_s = timeout_s
        self._account = account
        self._at_once = at_once
        self._client: Client | None = None

    def list_nodes(self) -> list[ClusterNode]:
        """All nodes by name, whether ready or not; raises ClusterError where the API refuses or does not answer."""
        import httpx2
        import msgspec
        from lightkube import ApiError
        from lightkube.core.exceptions import ConfigError as KubeConfigError

        try:
            return self._listed()
        except ApiError as error:
            raise ClusterError(_refusal(error.response.status_code, error.status.message or "no reason")) from None
        except httpx2.HTTPStatusError as error:  # from a proxy on the way: the API itself answers with a Status
            raise ClusterError(_refusal(error.response.status_code, "no answer of the API itself")) from None
        except httpx2.HTTPError as error:
            raise ClusterError(f"the Kubernetes API does not answer: {error or type(error).__name__}") from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise ClusterError(f"the Kubernetes API's answer is no list of nodes: {error}") from None
        except (KubeConfigError, OSError, KeyError) as error:
            raise ClusterError(f"nothing says how to reach the Kubernetes API: {error}") from None

    def _listed(self) -> list[ClusterNode]:
        from lightkube import ApiError
        from lightkube.resources.core_v1 import Node

        if self._client is None:
            self._client = self._connected()
        try:
            found = list(self._client.list(Node, chunk_size=self._at_once))
        except ApiError as error:
            if error.status.code != _GONE:
                raise
            found = list(self._client.list(Node, chunk_size=self._at_once))
        return sorted(map(_cluster_node, found), key=lambda node: node.name)

    def _connected(self) -> Client:
        import httpx2
        from lightkube import Client, KubeConfig

        # The environment's proxies are for the world outside of the cluster.
        config = KubeConfig.from_env(service_account=self._account)
        return Client(config, timeout=httpx2.Timeout(self._timeout_s), trust_env=False)


class ClusterWatch:
    """What is known of the cluster's nodes, listed every `period_s` seconds by a thread: start it where it serves.

    While the API is away, `nodes` stay as they were and `notice` says why. Until the first answer, `nodes` is None.
    """

    def __init__(self, cluster: Lists, period_s: float) -> None:
        self._cluster = cluster
        self._period_s = period_s
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self.tried = threading.Event()  # set once the API has been asked, whatever it said
        self.nodes: tuple[ClusterNode, ...] | None = None
        self.notice = ""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a question that is under way is waited for."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Asks the API once."""
        try:
            found = tuple(self._cluster.list_nodes())
        except ClusterError as error:
            known = f"the {len(self.nodes)} nodes last listed" if self.nodes is not None else "constellation.yaml"
            self._note(f"{error}; going on with {known}", logging.WARNING)
        else:
            changed = _changes(self.nodes or (), found)
            self.nodes = found
            self._note("", logging.INFO)
            if changed:
                log.info("nodes of the cluster: %s", "; ".join(changed))
        finally:
            self.tried.set()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # a fault of ours must not leave the nodes as they are for ever
                log.exception("listing the cluster's nodes failed")
            if self._leaving.wait(self._period_s):
                return

    def _note(self, notice: str, level: int) -> None:
        """Logs what is new; what is said once is not said again every period."""
        if notice != self.notice:
            log.log(level, "%s", notice or "the Kubernetes API answers again")
        self.notice = notice


def watch_cluster(settings: ClusterSettings, connect: Callable[[float], Lists] = ClusterNodes) -> ClusterWatch | None:
    """The started watch of the cluster that this process is in; None outside of one."""
    if not settings.in_cluster:
        return None
    watch = ClusterWatch(connect(settings.timeout_s), settings.period_s)
    watch.start()
    return watch


def _cluster_node(node: Any) -> ClusterNode:
    status, labels = node.status, node.metadata.labels or {}
    hosts = [a.address for a in (status and status.addresses) or () if a.type == "InternalIP"]
    conditions = {c.type: c.status for c in (status and status.conditions) or ()}
    kind = next((kind for kind in NODE_TYPES if kind == labels.get(TYPE_LABEL)), None)
    return ClusterNode(node.metadata.name, kind, hosts[0] if hosts else "", conditions.get("Ready") == "True")


def _changes(before: tuple[ClusterNode, ...], after: tuple[ClusterNode, ...]) -> list[str]:
    known, found = ({node.name: node for node in nodes} for nodes in (before, after))
    changes = [f"{name} is no more" for name in known.keys() - found.keys()]
    for name, node in found.items():
        if known.get(name) != node:
            state = "is ready" if node.ready else "is not ready"
            changes.append(f"{name} ({node.node_type or f'without label {TYPE_LABEL}'}, {node.host}) {state}")
    return sorted(changes)


def _refusal(status: int, said: str) -> str:
    answered = f"the Kubernetes API answered {status}: {said}"
    if status == 401:
        return f"{answered}; the service account's token is not valid, or not that of this cluster"
    if status == 403:
        return f"{answered}; node-info's service account needs a ClusterRole with the rule {_LISTING_RULE}"
    return answered
