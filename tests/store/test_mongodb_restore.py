"""A database that is set back under the hands of a store, in such a way that neither connection nor UUID shows it."""

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient

from rehydrate.errors import StoreSealedError, VersionConflictError
from rehydrate.store.mongodb.log import JUST_NOW, MANY
from rehydrate.store.port import Appended, Store
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import events, fill, ids, sound_log


@pytest.fixture
def client(mongodb_url: str) -> Any:
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        yield client


def restore_under_its_uuid(client: Any, documents: list[dict[str, Any]]) -> None:
    """What `mongorestore --drop --preserveUUID` does."""
    database = client.get_default_database()
    (found,) = database.list_collections(filter={"name": "events"})
    uuid = found["info"]["uuid"]
    database["events"].drop()
    created = {"create": "events", "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}
    create = {"op": "c", "ns": f"{database.name}.$cmd", "ui": uuid, "o": created}
    client.admin.command({"applyOps": [create]})
    if documents:
        database["events"].insert_many(documents)
    database["events"].create_index({"stream": 1, "version": 1}, unique=True, name="stream_version")
    (made,) = database.list_collections(filter={"name": "events"})
    assert made["info"]["uuid"] == uuid


@pytest.mark.parametrize("may_update", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 3])
async def test_a_collection_that_is_restored_under_its_uuid_is_noticed_before_anything_is_stored(
    mongodb_url: str, client: Any, kept: int, *, may_update: bool
) -> None:
    """It would leave a hole, which somebody fills later, behind a reader that has passed it."""
    store = await open_store(mongodb_url)
    # As it is for a user who may find and insert events, and no more, after the database has told him so.
    vars(store)["_log"]._may_update = may_update
    new = [one for _ in range(7) for one in events(1)]
    for n in range(7):
        await store.append("account-1", new[n : n + 1], expected_version=n)
    restore_under_its_uuid(
        client, list(client.get_default_database()["events"].find({"_id": {"$lte": kept}}))
    )
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=7)
    assert conflict.value.actual == kept
    assert await store.append("account-2", events(2), expected_version=0) == Appended(2, kept + 2)
    assert ids(await sound_log(store))[:kept] == ids(new[:kept])
    await store.close()


async def test_appends_that_come_together_are_put_where_the_restored_log_ends(
    mongodb_url: str, client: Any
) -> None:
    store = await open_store(mongodb_url)
    await fill(store, "account-1", 2)
    saved = list(client.get_default_database()["events"].find())
    await fill(store, "account-2", 4)
    restore_under_its_uuid(client, saved)
    for n in range(3, 9):
        assert (await store.append(f"account-{n}", events(2), expected_version=0)).version == 2
    assert [one.position for one in await sound_log(store)] == list(range(1, 15))
    await store.close()


async def test_a_flood_that_begins_after_a_restore_is_put_where_the_restored_log_ends(
    mongodb_url: str, client: Any
) -> None:
    """Many together are inserted without a question only while the last acknowledgement is fresh."""
    store = await open_store(mongodb_url)
    await fill(store, "account-1", 2)
    saved = list(client.get_default_database()["events"].find())
    together = [store.append(f"account-{n}", events(1), expected_version=0) for n in range(2, 2 + 4 * MANY)]
    await asyncio.gather(*together)
    restore_under_its_uuid(client, saved)
    await asyncio.sleep(JUST_NOW)  # As long as the shortest restore takes, at least.
    again = [store.append(f"other-{n}", events(1), expected_version=0) for n in range(4 * MANY)]
    assert {done.version for done in await asyncio.gather(*again)} == {1}
    assert [one.position for one in await sound_log(store)] == list(range(1, 3 + 4 * MANY))
    await store.close()


async def test_the_seal_is_put_where_the_restored_log_ends(mongodb_url: str, client: Any) -> None:
    """Elsewhere a writer would fill what is before it."""
    store, other = await open_store(mongodb_url), await open_store(mongodb_url)
    await fill(store, "account-1", 2)
    saved = list(client.get_default_database()["events"].find())
    await fill(store, "account-1", 4)
    restore_under_its_uuid(client, saved)
    await store.seal()
    await _is_refused(other)
    await _is_refused(store)
    found = client.get_default_database()["events"].find_one({"_id": 3})
    assert found is not None
    assert found["stream"] == "\0sealed"
    await store.close()
    await other.close()


async def _is_refused(store: Store) -> None:
    with pytest.raises(StoreSealedError):
        await store.append("account-9", events(1), expected_version=0)
