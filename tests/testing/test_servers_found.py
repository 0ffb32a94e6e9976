"""How a server is found, what happens where there is none, and the fixtures as users have them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rehydrate.testing.servers import (
    MongoServer,
    PostgresServer,
    ServerNotFoundError,
    ServerRoom,
    drop_database,
    found,
)
from rehydrate.testing.servers.databases import ask, with_database

# ------------------------------------------------------------------------------------------- how a server is found


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_package", _nowhere)


def _nowhere(*_: str) -> None:
    return None


_WHEEL = found.find_postgres(18).parts[0].parent


@pytest.mark.usefixtures("without_wheels")
def test_a_server_that_is_nowhere_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ServerNotFoundError, match=r"no PostgreSQL 16: `pip install .*REHYDRATE_TEST_POSTGRES_URL"
    ):
        found.find_postgres(16)
    with pytest.raises(ServerNotFoundError, match=r"no MongoDB: `pip install .*REHYDRATE_TEST_MONGODB_URL"):
        found.find_mongod()


@pytest.mark.usefixtures("without_wheels")
def test_a_program_that_misses_a_library_is_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mongod = tmp_path / "mongod"
    mongod.write_text(
        "#!/bin/sh\necho 'libcurl.so.4: cannot open shared object file' >&2\nexit 127\n", "utf-8"
    )
    mongod.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ServerNotFoundError, match="mongod does not run on this machine: libcurl"):
        found.find_mongod()


@pytest.mark.usefixtures("without_wheels")
def test_programs_on_the_path_are_used_if_they_are_of_the_right_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{_WHEEL}/pginstall18/bin{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ServerNotFoundError, match=r"no PostgreSQL 16 \(the one on the path is 18\)"):
        found.find_postgres(16)
    with ServerRoom() as room:
        assert ask(room.start_postgres(18).url, "SELECT 1") == 1


def test_programs_in_a_private_folder_are_run_and_the_folder_stays_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As root, where the server's user may not enter that folder, they are copied."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for folder in _WHEEL.parent.glob(f"{_WHEEL.name}*"):
        if folder.suffix != ".dist-info":
            subprocess.run(["cp", "-Rp", folder, private], check=True)

    def in_private_folder(*_: str) -> Path:
        return private / _WHEEL.name

    monkeypatch.setattr(found, "_package", in_private_folder)
    modes = {path: path.stat().st_mode for path in (*private.parents, private)}
    with ServerRoom() as room:
        server = room.start_postgres(18)
        assert ask(server.url, "SELECT 1") == 1
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(room.folder if os.geteuid() == 0 else private)
    assert {path: path.stat().st_mode for path in (*private.parents, private)} == modes


# ------------------------------------------------------------------------------------------------- as users have it


_TESTS = """
import asyncio

import asyncpg
from pymongo import MongoClient


def test_postgresql(postgres_url):
    async def write():
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("CREATE TABLE t (n int)")
        await connection.close()

    asyncio.run(write())
    print(postgres_url)


def test_mongodb(mongodb_url):
    with MongoClient(mongodb_url) as client:
        client.get_default_database().t.insert_one({})
    print(mongodb_url)
"""
_HIDDEN = """
from rehydrate.testing.servers import found

found._package = lambda *names: None
"""


def _run_pytest(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run those tests with nothing but Rehydrate's own plugin: no pytest-asyncio."""
    (folder / "test_stores.py").write_text(_TESTS, "utf-8")
    path = os.pathsep.join(path for path in sys.path if path)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("REHYDRATE_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-rP", "-p", "no:cacheprovider", *options],
        check=False,
        cwd=folder,
        env=kept
        | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "rehydrate.testing.plugin",
            "PYTHONPATH": path,
        }
        | environment,
        capture_output=True,
        text=True,
    )


def test_the_fixtures_work_without_any_other_plugin(tmp_path: Path) -> None:
    done = _run_pytest(tmp_path)
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("options", [(), ("-p", "xdist.plugin", "--numprocesses", "2")])
def test_a_server_that_cannot_be_had_is_a_loud_skip(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(_HIDDEN, "utf-8")
    done = _run_pytest(tmp_path, *options, PATH="")
    assert "2 skipped" in done.stdout, done.stdout
    assert done.returncode == 0
    _, _, summary = done.stdout.partition("servers that tests were skipped for")
    assert "no PostgreSQL 18: `pip install" in summary
    assert "no MongoDB: `pip install" in summary


def test_a_server_that_cannot_be_had_is_a_failure_where_servers_are_required(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_HIDDEN, "utf-8")
    done = _run_pytest(tmp_path, PATH="", REHYDRATE_REQUIRE_SERVERS="1")
    assert "2 errors" in done.stdout, done.stdout
    assert done.returncode == 1
    assert "no PostgreSQL 18: `pip install" in done.stdout
    assert "skipped" not in done.stdout


def test_a_server_of_ones_own_is_used_and_left_as_it_was(
    tmp_path: Path, postgres_server: PostgresServer, mongodb_server: MongoServer
) -> None:
    (tmp_path / "conftest.py").write_text(_HIDDEN, "utf-8")
    names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
    before = ask(postgres_server.url, names)
    done = _run_pytest(
        tmp_path,
        PATH="",
        REHYDRATE_REQUIRE_SERVERS="1",
        REHYDRATE_TEST_POSTGRES_URL=postgres_server.url,
        REHYDRATE_TEST_MONGODB_URL=mongodb_server.url,
    )
    assert "2 passed" in done.stdout, done.stdout
    for server in (postgres_server, mongodb_server):
        server_at, _, _ = server.url.partition("?")
        assert server_at.rpartition("/")[0] in done.stdout
    assert ask(postgres_server.url, names) == before


# ------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "fresh"),
    [
        ("postgresql://u:p@h:1/db?ssl=require", "postgresql://u:p@h:1/new?ssl=require"),
        ("postgresql://h", "postgresql://h/new"),
        ("mongodb://a:1,b:2/?replicaSet=rs", "mongodb://a:1,b:2/new?replicaSet=rs"),
        ("mongodb://u:p@a/app", "mongodb://u:p@a/new?authSource=app"),
        ("mongodb://u:p@a/?authSource=x", "mongodb://u:p@a/new?authSource=x"),
        ("mongodb+srv://u:p@a", "mongodb+srv://u:p@a/new?authSource=admin"),
    ],
)
def test_another_database_on_the_same_server(url: str, fresh: str) -> None:
    assert with_database(url, "new") == fresh


def test_a_database_that_was_not_made_for_a_test_is_not_dropped() -> None:
    with pytest.raises(ValueError, match="not made by"):
        drop_database("postgresql://localhost/customers")
