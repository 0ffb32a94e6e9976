"""How MongoDB finds what the store asks for: by an index, in the order of the index, without looking at the rest."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from pymongo import AsyncMongoClient

from rehydrate.store.mongodb.commands import Command, Commands
from rehydrate.store.port import LogFilter, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill
from rehydrate.testing.conformance.snapshots import snapshot

BY_INDEX = frozenset(
    {"IXSCAN", "IDHACK", "DISTINCT_SCAN", "EXPRESS_IXSCAN", "EXPRESS_IDHACK", "CLUSTERED_IXSCAN"}
)
IN_FULL = frozenset({"COLLSCAN", "SORT", "SORT_KEY_GENERATOR"})

COMMANDS = Commands("", timeout=10)
WHERE = {
    "streams": LogFilter(streams=frozenset({"account-7", "account-none"})),
    "aggregates": LogFilter(aggregates=frozenset({"account", "order"})),
    "types": LogFilter(types=frozenset({"Happened"})),
    "without": LogFilter(without=frozenset({("account", "Happened"), ("order", "Rare")})),
    "all": LogFilter(
        streams=frozenset({"account-7"}),
        aggregates=frozenset({"account"}),
        types=frozenset({"Rare"}),
        without=frozenset({("account", "Happened")}),
    ),
}
READ: dict[str, tuple[Command, int]] = {
    "newest": (COMMANDS.newest(), 3),
    "is_there": (COMMANDS.is_there(900, "the id"), 1),
    "documents_behind": (COMMANDS.documents_behind(900, 50, None, lasting=True), 51),
    "heads": (COMMANDS.heads(["account-7", "account-9", "account-none"]), 9),
    "stream_between": (COMMANDS.stream_between("account-7", 2, 6), 5),
    "stream_between, narrow": (COMMANDS.stream_between("account-7", 2, 6, narrow=("type", "data")), 5),
    "stream_around": (COMMANDS.stream_around("account-7", 5), 2),
    "log_between": (COMMANDS.log_between(100, 149, 50), 51),
    **{
        f"log_between, {name}": (COMMANDS.log_between(100, 149, 50, where), 51)
        for name, where in WHERE.items()
    },
    "log_around": (COMMANDS.log_around(500), 2),
    "end_around": (COMMANDS.end_around(500), 2),
    "streams": (COMMANDS.streams("", "", 10), 21),
    "streams, by prefix": (COMMANDS.streams("account-1", "account-10", 10), 21),
    "newest_snapshot": (COMMANDS.newest_snapshot("account-7"), 2),
    "newest_snapshot, the second": (COMMANDS.newest_snapshot("account-7", data=False, skip=1), 3),
    "load_checkpoint": (COMMANDS.load_checkpoint("consumer 7"), 1),
    "list_checkpoints": (COMMANDS.list_checkpoints("consumer 7"), 40),
    "load_view": (COMMANDS.load_view("consumer 7", "view 3"), 1),
    "load_views": (COMMANDS.load_views("consumer 7", ["view 3", "view 4"]), 4),
    "list_views": (COMMANDS.list_views("consumer 7", "view", "view 3", 10), 12),
    "savers_of": (COMMANDS.savers_of("consumer 7"), 1),
    "read_schema": (COMMANDS.read_schema(), 1),
    "any_of": (COMMANDS.any_of("events"), 1),
}
"""Each with the most keys that it may look at."""
PLACE: Command = {"_id": "consumer 7", "epoch": 2, "position": 9}
CHANGED: dict[str, Command] = {
    "save_snapshot": COMMANDS.save_snapshot({"stream": "account-7", "version": 3}),
    "delete_snapshots": COMMANDS.delete_snapshots("account-7"),
    "delete_snapshots, older ones": COMMANDS.delete_snapshots("account-7", below=3),
    "move_checkpoint": COMMANDS.move_checkpoint(PLACE, epoch=1, position=1),
    "reset_checkpoint": COMMANDS.reset_checkpoint("consumer 7", {"position": 0}),
    "remove_checkpoint": COMMANDS.remove_checkpoint("consumer 7"),
    "save_views": COMMANDS.save_views("consumer 7", [("view 3", b"")]),
    "remove_views": COMMANDS.remove_views("consumer 7"),
    "remove_views, some": COMMANDS.remove_views("consumer 7", ["view 3", "view 5"]),
    "announce_saver": COMMANDS.announce_saver("consumer 7", b"session"),
}


@pytest.fixture
async def database(mongodb_url: str) -> AsyncIterator[Any]:
    """A store with a thousand events and some of all the rest."""
    store = await open_store(mongodb_url)
    for n in range(40):
        await fill(store, f"account-{n}", 20, each=1)
        await store.append(f"order-{n}", events(5), expected_version=0)
        for version in range(1, 5):
            await store.save_snapshot(snapshot(f"account-{n}", version), keep=9)
        views = [ViewChange(f"view {m}", b"") for m in range(10)]
        await store.save_checkpoint(checkpoint(f"consumer {n}", 1), previous=None, views=views)
    await store.close()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    yield client.get_default_database()
    await client.close()


async def explained(database: Any, command: Command) -> dict[str, Any]:
    plain = {
        name: value
        for name, value in command.items()
        if name not in {"readConcern", "writeConcern", "maxTimeMS"}
    }
    found: dict[str, Any] = await database.command({"explain": plain, "verbosity": "executionStats"})
    return found


def parts(plan: Any) -> Iterator[dict[str, Any]]:
    """All documents inside an answer, but for the plans that did not win."""
    if isinstance(plan, dict):
        found = cast(dict[str, Any], plan)
        yield found
        for name, part in found.items():
            if name != "rejectedPlans":
                yield from parts(part)
    elif isinstance(plan, list):
        for part in cast(Iterator[Any], plan):
            yield from parts(part)


def stages(plan: dict[str, Any]) -> set[str]:
    return {part["stage"] for part in parts(plan) if isinstance(part.get("stage"), str)}


def most(plan: dict[str, Any], name: str) -> int:
    """The highest count of that name in the answer."""
    return max(int(part[name]) for part in parts(plan) if name in part)


async def test_every_question_is_answered_by_an_index_in_its_order(database: Any) -> None:
    for name, (command, keys) in READ.items():
        plan = await explained(database, command)
        found = stages(plan)
        assert found & BY_INDEX, f"{name}: {sorted(found)}"
        assert not found & IN_FULL, f"{name}: {sorted(found)}"
        assert most(plan, "totalKeysExamined") <= keys, f"{name} looks at too much"
        assert most(plan, "totalDocsExamined") <= keys, f"{name} looks at too much"


async def test_every_change_finds_its_document_by_an_index(database: Any) -> None:
    for name, command in CHANGED.items():
        found = stages(await explained(database, command))
        assert found & BY_INDEX, f"{name}: {sorted(found)}"
        assert not found & IN_FULL, f"{name}: {sorted(found)}"


async def test_an_insert_behind_another_document_finds_it_and_its_own_place_by_an_index(
    database: Any,
) -> None:
    document = {"_id": 5_000, "stream": "account-7", "version": 21, "count": 1}
    behind = COMMANDS.insert_behind(4_999, "the id", [document], None)
    for update in behind["updates"]:
        found = stages(await explained(database, {"update": behind["update"], "updates": [update]}))
        assert found & BY_INDEX, sorted(found)
        assert not found & IN_FULL, sorted(found)


async def test_every_question_and_every_change_is_explained_here() -> None:
    """A command that is added comes with its plan."""
    without_a_plan = {
        *(
            "collections",
            "create_collections",
            "create_indexes",
            "index_of_events",
            "indexes_of_events",
            "collection",
            "changes",
        ),
        *("insert", "insert_behind", "save_schema", "begin_checkpoint"),
        *("in_transaction", "patient_for"),
    }
    public = {name for name in vars(Commands) if not name.startswith("_")}
    explained_here = {name.partition(",")[0] for name in [*READ, *CHANGED]}
    assert public == explained_here | without_a_plan
