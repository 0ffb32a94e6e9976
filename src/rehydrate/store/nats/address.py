"""The URL of a store in NATS: where the servers are, the name of the store on them, and how it is kept there."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.nats.address import NatsAddress, read_nats_address
from rehydrate.store_url import StoreUrl

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is, and how it is used there."""

    nats: NatsAddress
    name: str
    """By which several applications on the same servers keep apart."""
    replicas: int
    """0: as many as there are, and for a new store what fits the servers."""
    max_bytes: int
    """0: as many as there are, and no limit for a new store."""
    create: bool
    """Whether to make the store where there is none."""
    poll: float
    is_known_to_sync: bool
    """Whether somebody has checked that the servers write to disk before they acknowledge."""

    @property
    def shown(self) -> str:
        return self.nats.shown

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def read_address(url: StoreUrl) -> Address:
    """Take from the URL what there is to know; raises `ConfigurationError` for what makes no sense."""
    nats = read_nats_address(url)
    if not _NAME.fullmatch(url.path):
        raise ConfigurationError(
            f"{url.shown} must name the store, with at most 64 letters, digits, '_' and '-': nats://{url.host}/bank"
        )
    replicas = url.number("replicas", default=0)
    if replicas not in {0, 1, 3, 5}:
        raise ConfigurationError(f"{url.shown}: replicas={replicas} must be 1, 3 or 5")
    address = Address(
        nats=nats,
        name=url.path,
        replicas=replicas,
        max_bytes=url.number("max_bytes", default=0),
        create=url.choice("create", ("true", "false"), default="true") == "true",
        poll=url.seconds("poll", default=0.2),
        is_known_to_sync=url.choice("sync", ("ask", "always"), default="ask") == "always",
    )
    url.refuse_the_rest()
    return address
