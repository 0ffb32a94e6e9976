"""`rehydrate migrate`: bringing the tables of a store up to date, before programs that must not do it are started."""

from __future__ import annotations

from rehydrate.cli.endings import say
from rehydrate.store.url import migrate_store


async def migrate(url: str) -> int:
    """Do it, and say what was done. Returns the exit code."""
    say(await migrate_store(url))
    return 0
