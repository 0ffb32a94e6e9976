"""The laws of a store, on MongoDB."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.servers import MongoServer
from tests.store.older_data import OnOlderData


class TestMongodb(StoreConformance):
    @pytest.fixture
    def url(self, mongodb_url: str) -> Iterator[str]:
        yield mongodb_url
        _end_transactions(mongodb_url)

    async def copy(self, url: str) -> dict[str, list[dict[str, Any]]]:
        return await asyncio.to_thread(_dump, url)

    async def restore(self, url: str, copied: dict[str, list[dict[str, Any]]]) -> None:
        """As `mongorestore --drop` does it: under the hands of those who have the database open, and connected."""
        await asyncio.to_thread(_restore, url, copied)


# Each law has a server of its own, which is stopped, copied and started a few times.
@pytest.mark.slow
class TestMongodbOnOlderData(OnOlderData):
    @pytest.fixture
    def server(self, start_mongodb: Callable[..., MongoServer]) -> MongoServer:
        return start_mongodb()


def _dump(url: str) -> dict[str, list[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        return {name: list(database[name].find()) for name in database.list_collection_names()}


def _restore(url: str, copied: dict[str, list[dict[str, Any]]]) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name, documents in copied.items():
            indexes = [dict(index) for index in database[name].list_indexes()]
            database[name].drop()
            database.create_collection(name)
            if documents:
                database[name].insert_many(documents)
            database.command({"createIndexes": name, "indexes": indexes})


def _end_transactions(url: str) -> None:
    """A law has killed a consumer in the middle of one, and the database could not be dropped for a minute."""
    with MongoClient[dict[str, Any]](url) as client:
        savers = client.get_default_database()["savers"].find()
        sessions = [{"id": session} for saver in savers for session in saver["sessions"]]
        if sessions:
            client.admin.command({"killSessions": sessions})
