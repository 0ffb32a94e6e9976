"""What a server says of itself on its monitoring port, which only its own machine can reach."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds that a server has for an answer."""


class Copy(msgspec.Struct, frozen=True):
    """Where another server of the group stands, as its leader sees it."""

    name: str
    current: bool = False
    offline: bool = False


class Group(msgspec.Struct, frozen=True):
    """The servers that hold copies of the same, and the one that leads them."""

    leader: str = ""
    replicas: list[Copy] = []
    cluster_size: int = 1


class JetStreamStream(msgspec.Struct, frozen=True):
    """A JetStream stream that the server holds."""

    name: str
    cluster: Group | None = None


class Account(msgspec.Struct, frozen=True):
    """What belongs to one account; without accounts there is just one."""

    stream_detail: list[JetStreamStream] = []


class Settings(msgspec.Struct, frozen=True):
    """Those of JetStream."""

    sync_always: bool = False


class JetStream(msgspec.Struct, frozen=True):
    """The answer to `jsz?streams=true`."""

    config: Settings = Settings()
    meta_cluster: Group | None = None
    account_details: list[Account] = []

    def leaders(self) -> dict[str, str]:
        """Who leads each JetStream stream that the server holds, as far as it knows; under no name, who leads them all."""
        leaders = {
            stream.name: stream.cluster.leader if stream.cluster else ""
            for account in self.account_details
            for stream in account.stream_detail
        }
        return {"": self.meta_cluster.leader if self.meta_cluster else "", **leaders}


class Route(msgspec.Struct, frozen=True):
    """A connection to another server."""

    remote_name: str = ""


class Routing(msgspec.Struct, frozen=True):
    """The answer to `routez`."""

    routes: list[Route] = []


class Health(msgspec.Struct, frozen=True):
    """The answer to `healthz`."""

    status: str = ""
    error: str = ""


def ask(port: int, path: str, answer: type[T], *, patience: float = PATIENCE) -> T | None:
    """The answer of the server whose monitoring port this is, or None while it gives none."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=patience)) as connection:
        try:
            connection.request("GET", f"/{path}")
            told = connection.getresponse()
            text = told.read()
        except (OSError, HTTPException):
            return None
    # A server that is not well says so with another status.
    if told.status not in {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}:
        return None
    try:
        return msgspec.json.decode(text, type=answer)
    except msgspec.MsgspecError:
        return None


def health(port: int, *, patience: float = PATIENCE) -> Health | None:
    """How the server and all that it holds are; `status` is `ok` where all is well."""
    return ask(port, "healthz", Health, patience=patience)


def jetstream(port: int, *, patience: float = PATIENCE) -> JetStream | None:
    """What JetStream holds there, and who leads it."""
    return ask(port, "jsz?streams=true", JetStream, patience=patience)


def routing(port: int, *, patience: float = PATIENCE) -> Routing | None:
    """Which other servers it is connected with."""
    return ask(port, "routez", Routing, patience=patience)
