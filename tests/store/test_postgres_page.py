"""What docs/postgresql.md tells people to run in their database."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.calls import CALLS, prepare
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill, sound_log
from rehydrate.testing.conformance.snapshots import snapshot
from tests.docs.pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "postgresql.md"
GRANTS, *QUERIES = [block for block in blocks(PAGE) if block.language == "sql"]


async def test_a_role_with_the_rights_that_the_page_names_can_do_all_but_migrate_and_seal(
    postgres_url: str,
) -> None:
    owner = await open_store(postgres_url)
    role = f"program_{urlsplit(postgres_url).path.rpartition('_')[2]}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'program'")
    await connection.execute(GRANTS.code.replace("bank_program", role))
    parts = urlsplit(postgres_url)
    url = urlunsplit(parts._replace(netloc=f"{role}:program@{parts.hostname}:{parts.port}"))
    store = await open_store(f"{url}?migrate=false")
    try:
        await prepare(store)
        for name in CALLS:
            await CALLS[name](store)
        await store.save_snapshot(snapshot("account-7", 3), keep=1)
        await store.save_checkpoint(checkpoint("one", 3), previous=None, views=[ViewChange("ada", b"")])
        with pytest.raises(StoreUnavailableError, match=r"must be owner|permission denied") as refused:
            await store.seal()
        assert not refused.value.retryable
        await fill(store, "account-1", 2)
        done = await store.append("account-8", again := events(2), expected_version=0)
        assert await store.append("account-8", again, expected_version=0) == done
        assert await sound_log(store) == await sound_log(owner)
    finally:
        await store.close()
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()
        await owner.close()


@pytest.mark.parametrize("query", QUERIES, ids=lambda block: block.place)
async def test_a_query_of_the_page_runs(postgres_url: str, query: Block) -> None:
    store = await open_store(postgres_url)
    await fill(store, "bank_account-ada", 2)
    assert await store.save_checkpoint(checkpoint("balances", 1), previous=None)
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch(query.code)
    if "rehydrate." in query.code:
        assert rows
    await connection.close()
    await store.close()
