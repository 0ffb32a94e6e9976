"""Stores in NATS, and what lies below them, for tests that look inside."""

# pyright: reportPrivateUsage=false

from typing import Any
from urllib.parse import urlsplit

import pytest

from rehydrate.errors import ConfigurationError
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.url import open_store


async def opened(url: str) -> NatsStore:
    store = await open_store(url)
    assert isinstance(store, NatsStore)
    return store


async def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await open_store(url)
    return str(refused.value)


async def config_of(store: NatsStore, kind: str) -> dict[str, Any]:
    config: dict[str, Any] = (await store._jetstream.api(f"STREAM.INFO.{name_of(store)}-{kind}"))["config"]
    return config


async def delete_all(store: NatsStore) -> None:
    for kind in ("events", "snapshots", "consumers"):
        await store._jetstream.api(f"STREAM.DELETE.{name_of(store)}-{kind}")


def name_of(store: NatsStore) -> str:
    return urlsplit(store.url).path.strip("/")
