"""The laws of a store, on SQLite."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.conformance.restores import RestoreLaws


class OnSqlite:
    @pytest.fixture
    def url(self, disk_path: Path) -> str:
        return f"sqlite:///{disk_path}/events.db"

    async def copy(self, url: str) -> Path:
        file = _file(url)
        await asyncio.to_thread(_copy, file, file.with_suffix(".copy"))
        return file.with_suffix(".copy")

    async def restore(self, url: str, copied: Path) -> None:
        await asyncio.to_thread(_copy, copied, _file(url))


class TestSqlite(OnSqlite, StoreConformance):
    pass


class TestReplacedSqlite(OnSqlite, RestoreLaws):
    """Restored as people do it: another file is put in the place of the one that is open."""

    async def restore(self, url: str, copied: Path) -> None:
        await asyncio.to_thread(_replace, copied, _file(url))


def _file(url: str) -> Path:
    return Path("/", url.removeprefix("sqlite:///"))


def _copy(source: Path, target: Path) -> None:
    """As `sqlite3 FILE .restore` does: through SQLite, so that whoever has the file open notices."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target, timeout=30)) as new:
        old.backup(new)


def _replace(source: Path, target: Path) -> None:
    fresh = target.with_suffix(".fresh")
    shutil.copyfile(source, fresh)
    for beside in ("-wal", "-shm"):
        target.with_name(target.name + beside).unlink(missing_ok=True)
    fresh.replace(target)
