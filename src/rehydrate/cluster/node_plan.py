"""What a node is to be: its name, where it listens, and who its peers are. Everything that can be checked before it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote, urlencode

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.nats.configuration import Routes, ServerConfiguration, TlsFiles, check_token, route_secret
from rehydrate.nats.endpoint import HIGHEST_PORT, Endpoint
from rehydrate.nats.server import ServerFiles

SIZES: Final = (1, 3, 5)
"""How many peers there may be: with an even number one more may fail than with one less, and no more is survived."""
ROUTE_PORTS: Final = 2_000
"""So far above the port for clients is that for the other nodes: 6222 for 4222."""
DEFAULT_LISTEN: Final = "127.0.0.1:4222"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A node whose parts agree with each other."""

    name: str
    cluster: str
    listen: Endpoint
    peers: dict[str, Endpoint]
    """All nodes by name, this one among them, and where clients and the others reach them."""
    token: str | None
    tls: TlsFiles | None
    max_bytes: int | None

    def __repr__(self) -> str:
        return f"NodePlan({self.name!r})"

    @property
    def here(self) -> Endpoint:
        """Where others reach it."""
        return self.peers[self.name]

    @property
    def others(self) -> list[str]:
        """The names of the other nodes."""
        return [name for name in self.peers if name != self.name]

    @property
    def url(self) -> str:
        """Where to connect, this node first; it holds the token."""
        hosts = ",".join(str(self.peers[name]) for name in (self.name, *self.others))
        credentials = f"{quote(self.token, safe='')}@" if self.token else ""
        return f"nats://{credentials}{hosts}"

    @property
    def shown_url(self) -> str:
        """The same without the token."""
        return self.url.replace(f"{quote(self.token, safe='')}@", "") if self.token else self.url

    def store_url(self, name: str) -> str:
        """The URL of a store: as many copies as there are nodes, however many can be seen now, and each on disk."""
        return self._url_of(name, {"replicas": str(len(self.peers)), "sync": "always"})

    def cluster_url(self, name: str) -> str:
        """What `cluster=` takes, so that programs on these nodes share their streams."""
        return self._url_of(name, {"replicas": str(len(self.peers))})

    def _url_of(self, name: str, parameters: dict[str, str]) -> str:
        if self.tls is not None:
            parameters["tls_ca"] = str(self.tls.authority)
        return f"{self.url}/{quote(name, safe='')}?{urlencode(parameters, safe='/')}"

    def configuration(self, data: Path, files: ServerFiles) -> ServerConfiguration:
        """What the server is told."""
        return ServerConfiguration(
            name=self.name,
            folder=data,
            listen=self.listen,
            advertise=self.here,
            ports_folder=files.ports,
            log=files.log,
            max_bytes=self.max_bytes,
            token=self.token,
            tls=self.tls,
            routes=self._routes() if self.others else None,
        )

    def _routes(self) -> Routes:
        return Routes(
            cluster=self.cluster,
            listen=_for_routes(self.listen),
            advertise=_for_routes(self.here),
            others=[_for_routes(self.peers[name]) for name in self.others],
            secret=route_secret(self.token),
        )


def plan_node(
    *,
    name: str,
    listen: str | None,
    peers: Mapping[str, str] | Iterable[str],
    cluster: str,
    token: str | None,
    tls: TlsFiles | None,
    max_bytes: int | None,
) -> NodePlan:
    """Check all of it; whatever does not fit is one sentence in a `ConfigurationError`."""
    for what, text in (("node", name), ("cluster", cluster)):
        if not _NAME.fullmatch(text):
            raise ConfigurationError(
                f"a {what} cannot be named {text!r}: use 1 to 64 letters, digits, '_' and '-'"
            )
    known = _read_peers(peers)
    if not known:
        known = {name: Endpoint.parse(listen or DEFAULT_LISTEN)}
    if name not in known:
        raise ConfigurationError(
            f"node {name!r} is not among its peers ({', '.join(known)}): all nodes are given the same peers, themselves "
            "among them"
        )
    plan = NodePlan(
        name=name,
        cluster=cluster,
        listen=Endpoint.parse(listen) if listen else known[name],
        peers=known,
        token=token,
        tls=tls,
        max_bytes=max_bytes,
    )
    _check(plan)
    return plan


def _read_peers(peers: Mapping[str, str] | Iterable[str]) -> dict[str, Endpoint]:
    known: dict[str, Endpoint] = {}
    for name, text in _pairs(peers):
        place = Endpoint.parse(text)
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"a peer cannot be named {name!r}: use 1 to 64 letters, digits, '_' and '-'"
            )
        if name in known:
            raise ConfigurationError(f"there are two peers named {name!r}: give each a name of its own")
        if place in known.values():
            raise ConfigurationError(f"two peers are at {place}: give each an address of its own")
        if place.is_any:
            raise ConfigurationError(f"{place} is no address at which anybody could reach peer {name!r}")
        known[name] = place
    return known


def _pairs(peers: Mapping[str, str] | Iterable[str]) -> list[tuple[str, str]]:
    if isinstance(peers, str):
        return [_pair(text) for text in peers.split(",") if text.strip()]
    if isinstance(peers, Mapping):
        return list(cast(Mapping[str, str], peers).items())
    return [_pair(text) for text in peers]


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{text!r} is no NAME=HOST:PORT, as a=10.0.0.1:4222 is")
    return name.strip(), place


def _check(plan: NodePlan) -> None:
    if len(plan.peers) not in SIZES:
        raise ConfigurationError(
            f"a cluster has 1, 3 or 5 nodes, and these are {len(plan.peers)}: with an even number, no more of them may "
            "fail than with one less"
        )
    if plan.here.is_any:
        raise ConfigurationError(
            f"nobody can connect to {plan.here}: say at which address this node is reached, with peers of it alone, "
            f"such as {plan.name}=10.0.0.1:{plan.here.port}"
        )
    for place in (plan.listen, *plan.peers.values()):
        if plan.others and place.port + ROUTE_PORTS > HIGHEST_PORT:
            raise ConfigurationError(
                f"port {place.port} leaves no room for the port {ROUTE_PORTS} above it, at which nodes talk to each "
                "other: choose a lower one"
            )
    if plan.token is not None:
        check_token(plan.token)
    if not plan.listen.is_loopback and (plan.token is None or plan.tls is None):
        raise ConfigurationError(
            f"a node that listens on {plan.listen} can be reached from other machines: give it a token and TLS"
        )
    if plan.max_bytes is not None and plan.max_bytes < 1:
        raise ConfigurationError(f"a node cannot store at most {plan.max_bytes} bytes: give a number above 0")
    if plan.tls is not None:
        for file in (plan.tls.certificate, plan.tls.key, plan.tls.authority):
            if not (file.is_file() and os.access(file, os.R_OK)):
                raise ConfigurationError(f"there is no file {file} that can be read, which TLS was to use")


def _for_routes(place: Endpoint) -> Endpoint:
    return Endpoint(place.host, place.port + ROUTE_PORTS)
