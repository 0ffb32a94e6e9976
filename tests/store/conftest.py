"""What the tests of a store share."""

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def stranger(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Somebody who uses the database without Rehydrate."""
    stranger = await asyncpg.connect(postgres_url)
    yield stranger
    await stranger.close()
