"""What is no SQLite store, and cannot become one: it is called what it is, and left alone."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.errors import ConfigurationError
from rehydrate.store.url import open_store


async def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await open_store(f"sqlite:///{path}")
    return str(refused.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path}/none" in await refusal(tmp_path / "none" / "bank.db")


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory" in await refusal(tmp_path)


async def test_a_pipe_or_a_device_is_no_file(path: Path) -> None:
    os.mkfifo(path)
    for special in (path, Path(os.devnull)):
        assert f"{special} is a pipe, a socket or a device, and must be a file" in await refusal(special)


async def test_a_link_that_leads_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    assert f"{path} cannot be opened: Too many levels of symbolic links" in await refusal(path)


@pytest.mark.parametrize("content", [b"not a database", b"x" * 10_000])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not an SQLite database" in await refusal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", ["notes (text)", "meta (key, value)", "meta (name, value)"])
async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute(f"CREATE TABLE {table}")
    content = path.read_bytes()
    assert "is a database of another program" in await refusal(path)
    assert path.read_bytes() == content
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_database_of_a_newer_rehydrate_is_refused_and_left_alone(path: Path) -> None:
    await (await open_store(f"sqlite:///{path}")).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("UPDATE meta SET value = '3' WHERE name = 'rehydrate schema'")
        newer.commit()
    content = path.read_bytes()
    said = await refusal(path)
    assert said == f"{path} was written by a newer Rehydrate (schema 3, this one knows 2): upgrade Rehydrate"
    assert path.read_bytes() == content


@pytest.mark.parametrize("schema", ["x", "", "0", "-1", "2.0", "02", "\u0662", "9" * 5_000])
async def test_a_schema_that_nobody_writes_is_refused_and_left_alone(path: Path, schema: str) -> None:
    await (await open_store(f"sqlite:///{path}")).close()
    with closing(sqlite3.connect(path)) as damaged:
        damaged.execute("UPDATE meta SET value = ? WHERE name = 'rehydrate schema'", (schema,))
        damaged.commit()
    content = path.read_bytes()
    said = await refusal(path)
    assert (
        said
        == f"{path} says that its schema is {schema[:40]!r}, which no Rehydrate writes: bring it back from a copy"
    )
    assert path.read_bytes() == content
