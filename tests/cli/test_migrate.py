"""`rehydrate migrate`, and the commands that look at a store and make nothing there."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.store.postgres.migrations import VERSION
from rehydrate.store.sqlite.schema import SCHEMA_VERSION
from tests.cli.terminal import process, typed
from tests.store.sqlite_schema_1 import write_schema_1


def test_the_tables_are_made_and_the_second_time_there_is_nothing_to_do(postgres_url: str) -> None:
    looked = typed("streams", "--store", postgres_url)
    assert looked.code == 1
    assert "run `rehydrate migrate --store URL` first" in looked.stderr
    made = process("migrate", "--store", postgres_url)
    assert (made.code, made.stdout) == (0, "")
    assert made.stderr.endswith(f": schema rehydrate was brought from version 0 to {VERSION}\n")
    again = process("migrate", "--store", postgres_url)
    assert again.code == 0
    assert again.stderr.endswith(f": schema rehydrate is at version {VERSION}, as it should be\n")
    assert "has no streams" in typed("streams", "--store", f"{postgres_url}?migrate=false").stderr
    assert "has no streams" in typed("streams", "--store", f"{postgres_url}?pool=1").stderr


def test_a_store_without_migrations_says_so() -> None:
    ended = typed("migrate", "--store", "memory://")
    assert (ended.code, ended.stderr) == (
        0,
        "rehydrate: memory:// is of a kind that has nothing to migrate\n",
    )


def test_an_older_file_is_looked_at_when_it_has_been_migrated(tmp_path: Path) -> None:
    path, url = tmp_path / "bank.db", f"sqlite:///{tmp_path / 'bank.db'}"
    write_schema_1(path, {"account-1": 3})
    looked = typed("streams", "--store", url)
    assert looked.code == 1
    said = f"{path} is at schema 1, and this program needs {SCHEMA_VERSION}: run `rehydrate migrate --store URL` first"
    assert said in looked.stderr
    migrated = process("migrate", "--store", f"{url}?migrate=false")
    assert (migrated.code, migrated.stdout) == (0, "")
    assert migrated.stderr.endswith(f"rehydrate: {url}: it was brought from schema 1 to {SCHEMA_VERSION}\n")
    again = typed("migrate", "--store", url)
    assert (again.code, again.stderr) == (
        0,
        f"rehydrate: {url}: it is at schema {SCHEMA_VERSION}, as it should be\n",
    )
    assert "account-1" in typed("streams", "--store", url).stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database", "is not an SQLite database"), (None, "is a database of another program")],
)
def test_what_is_no_store_is_not_migrated(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "theirs.db"
    if content is None:
        with closing(sqlite3.connect(path)) as theirs:
            theirs.execute("CREATE TABLE notes (text)")
        content = path.read_bytes()
    path.write_bytes(content)
    ended = typed("migrate", "--store", f"sqlite:///{path}")
    assert ended.code == 1
    assert said in ended.stderr
    assert path.read_bytes() == content


def test_a_url_that_leads_nowhere_is_one_sentence() -> None:
    ended = typed("migrate", "--store", "postgres://localhost/bank")
    assert ended.code == 1
    assert ended.stderr.startswith("rehydrate: no store is known by postgres://")
