"""What `cluster="nats://..."` says: how to reach NATS, which cluster, and its parameters."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.nats.address import NatsAddress, read_nats_address
from rehydrate.store_url import StoreUrl

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_EXAMPLE: Final = "nats://localhost:4222/bank"
SHARDS: Final = 256
MOST_SHARDS: Final = 4_096


class ClusterAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, and how this node takes part in it."""

    nats: NatsAddress
    name: str
    shards: int | None
    """How many slices there are; as the cluster has been started with where nothing is said."""
    ttl: int
    """Seconds that a lease outlives its last renewal."""
    patience: float
    """Seconds that a node may stay silent until others run its commands themselves."""
    replicas: int | None
    moves: float
    """Shards that a node hands over in a second, at most."""

    @property
    def bucket(self) -> str:
        return f"{self.name}-cluster"


def read_cluster_address(text: str) -> ClusterAddress:
    """Take the URL apart. Raises `ConfigurationError` in one sentence for what cannot be used."""
    url = StoreUrl(text)
    if url.scheme != "nats":
        raise ConfigurationError(
            f"a cluster is not found by {url.scheme}://: write cluster={_EXAMPLE!r} (the store is the first argument)"
        )
    if not _NAME.fullmatch(url.path):
        raise ConfigurationError(
            f"{url.shown}: the cluster needs a name of letters, digits, '-' and '_', at most 64: {_EXAMPLE}"
        )
    shards = url.number("shards", default=0)
    replicas = url.number("replicas", default=0)
    address = ClusterAddress(
        nats=read_nats_address(url),
        name=url.path,
        shards=shards or None,
        ttl=url.number("ttl", default=15, at_least=1),
        patience=url.seconds("patience", default=1.0),
        replicas=replicas or None,
        moves=url.seconds("moves", default=20.0),
    )
    url.refuse_the_rest()
    if shards > MOST_SHARDS:
        raise ConfigurationError(f"{url.shown}: shards={shards} must be at most {MOST_SHARDS:,}")
    if replicas not in (0, 1, 3, 5):
        raise ConfigurationError(f"{url.shown}: replicas={replicas} must be 1, 3 or 5")
    return address
