"""The laws of a store, on SQLite."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.testing.conformance import StoreConformance


class OnSqlite:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/events.db"

    async def copy(self, url: str) -> Path:
        file = _file(url)
        await asyncio.to_thread(_copy, file, file.with_suffix(".copy"))
        return file.with_suffix(".copy")

    async def restore(self, url: str, copied: Path) -> None:
        await asyncio.to_thread(_copy, copied, _file(url))


class TestSqlite(OnSqlite, StoreConformance):
    pass


def _file(url: str) -> Path:
    return Path("/", url.removeprefix("sqlite:///"))


def _copy(source: Path, target: Path) -> None:
    """As `sqlite3 FILE .restore` does: through SQLite, so that whoever has the file open notices."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target, timeout=30)) as new:
        old.backup(new)
