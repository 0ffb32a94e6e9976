"""The configuration of a NATS server as Rehydrate wants it: every write on disk, large messages, a dead peer noticed soon."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.nats.endpoint import Endpoint

MAX_PAYLOAD: Final = 8 * 1024 * 1024
"""Bytes of the largest message, and so of the largest append: NATS by itself takes 1 MiB."""
_PING_INTERVAL: Final = "2s"
_PINGS: Final = 2
"""A connection that leaves so many pings unanswered is given up: NATS by itself waits for minutes."""
_HANDSHAKE: Final = 3
"""Seconds for TLS and for credentials."""
_ROUTE_USER: Final = "node"


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM format: a server's certificate, its private key, and the authority that signed those of all peers."""

    certificate: Path
    key: Path
    authority: Path


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """How a server of a cluster talks to the others."""

    cluster: str
    """The cluster's name, the same for all."""
    listen: Endpoint
    advertise: Endpoint
    """Where the others reach it."""
    others: Sequence[Endpoint]
    """The others, and never the server itself: with its own address among them, fresh servers find no leader."""
    secret: str
    """What the servers know each other by."""

    def __repr__(self) -> str:
        return f"Routes({self.cluster!r})"


class ServerConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a server is told, to be written to a file that only its own user can read."""

    name: str
    folder: Path
    """Where JetStream keeps its data."""
    listen: Endpoint
    advertise: Endpoint
    """Where clients reach it."""
    monitor_port: int = 0
    """Of 127.0.0.1, where it answers questions on its health; 0 leaves the choice to the system."""
    ports_folder: Path | None = None
    """Where the server writes the ports that it listens on, for when the system chose them."""
    log: Path | None = None
    """By default it logs to stderr."""
    max_bytes: int | None = None
    """The most that it stores; by default most of what is free on the disk when it starts."""
    token: str | None = None
    tls: TlsFiles | None = None
    routes: Routes | None = None
    """Nothing for a server that stands alone."""

    def __repr__(self) -> str:
        return f"ServerConfiguration({self.name!r})"

    def settings(self) -> dict[str, Any]:
        """The settings by their names in NATS."""
        jetstream: dict[str, Any] = {"store_dir": str(self.folder), "sync_interval": "always"}
        if self.max_bytes is not None:
            jetstream["max_file"] = self.max_bytes
        settings: dict[str, Any] = {
            "server_name": self.name,
            "listen": str(self.listen),
            "client_advertise": str(self.advertise),
            "http": f"127.0.0.1:{self.monitor_port or -1}",
            "max_payload": MAX_PAYLOAD,
            "ping_interval": _PING_INTERVAL,
            "ping_max": _PINGS,
            "jetstream": jetstream,
        }
        if self.ports_folder is not None:
            settings["ports_file_dir"] = str(self.ports_folder)
        if self.log is not None:
            settings |= {"logfile": str(self.log), "logfile_size_limit": 10_000_000, "logfile_max_num": 5}
        if self.token is not None:
            settings["authorization"] = {"token": self.token, "timeout": _HANDSHAKE}
        if self.tls is not None:
            settings["tls"] = _tls(self.tls)
        if self.routes is not None:
            settings["cluster"] = self._cluster(self.routes)
        return settings

    def _cluster(self, routes: Routes) -> dict[str, Any]:
        cluster: dict[str, Any] = {
            "name": routes.cluster,
            "listen": str(routes.listen),
            "advertise": str(routes.advertise),
            "authorization": {"user": _ROUTE_USER, "password": routes.secret, "timeout": _HANDSHAKE},
            "ping_interval": _PING_INTERVAL,
            "ping_max": _PINGS,
            "routes": [f"nats-route://{_ROUTE_USER}:{routes.secret}@{other}" for other in routes.others],
        }
        if self.tls is not None:
            # The peers show each other that the same authority signed them.
            cluster["tls"] = _tls(self.tls) | {"verify": True}
        return cluster


def written(settings: Mapping[str, Any]) -> str:
    """The text of a configuration file. NATS reads JSON, in which nothing that a value holds can mean anything else."""
    return msgspec.json.format(msgspec.json.encode(settings)).decode()


def route_secret(token: str | None) -> str:
    """What servers with this token know each other by: it tells nobody the token."""
    return hmac.new((token or "").encode(), b"rehydrate routes", hashlib.sha256).hexdigest()[:32]


def check_token(token: str) -> None:
    """Refuse what NATS would not take as it stands."""
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) < 1:
        raise ConfigurationError(
            "a token is made of printable ASCII characters without blanks: choose another"
        )
    if token.startswith("$2"):
        raise ConfigurationError("NATS would take a token that begins with '$2' for a hash: choose another")


def _tls(files: TlsFiles) -> dict[str, Any]:
    return {
        "cert_file": str(files.certificate),
        "key_file": str(files.key),
        "ca_file": str(files.authority),
        "timeout": _HANDSHAKE,
    }
