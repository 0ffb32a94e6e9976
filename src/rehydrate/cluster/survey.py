"""A cluster as it is seen from outside, by a process that is no node of it."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from rehydrate.cluster.address import read_cluster_address
from rehydrate.cluster.bucket import Bucket
from rehydrate.cluster.table import SETTINGS, Settings, Table
from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.nats.connection import Connection, NotAnsweredError

_PAUSE: Final = 0.05


async def survey(url: str) -> Table:
    """Who is there, and who owns what; nothing is made or changed.

    Raises `ConfigurationError` where there is no such cluster, and `StoreUnavailableError`.
    """
    address = read_cluster_address(url)
    connection = Connection(address.nats, name=f"rehydrate look at {address.name}")
    await connection.open()
    try:
        bucket = Bucket(connection, address.bucket)
        await bucket.open(None, within=address.nats.timeout, create=False)
        table = await _table(bucket, address.nats.timeout)
    except NotAnsweredError as error:
        raise StoreUnavailableError(
            f"{address.nats.shown}: the cluster cannot be read now: {error.reason}"
        ) from None
    finally:
        await connection.close()
    if table is None:
        raise ConfigurationError(f"{address.nats.shown}: no node has been in this cluster yet")
    return table


async def _table(bucket: Bucket, within: float) -> Table | None:
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    while True:
        try:
            changes = await bucket.changes(0)
            break
        except NotAnsweredError:
            if loop.time() > until:
                raise
        await asyncio.sleep(_PAUSE)
    for change in changes:
        if change.key == SETTINGS:
            table = Table(msgspec.json.decode(change.value, type=Settings).shards)
            table.apply(changes)
            return table
    return None
