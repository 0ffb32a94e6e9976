"""`rehydrate node`: it says what it does, and ends in order when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server
from threading import Timer

import pytest
from msgspec.structs import replace

from rehydrate.cli.node import sentences
from rehydrate.cluster import Node, NodeHealth
from rehydrate.testing.clock import until
from rehydrate.testing.servers.process import free_port
from rehydrate.testing.servers.watcher import children_of, is_running
from tests.cli.terminal import BANK, HANG_LIMIT, deposit, process, started, typed
from tests.cluster.places import free_place, three_places

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


_SAYS_SOON = "import rehydrate.cluster.node as node\nnode._SAY_EVERY = 0.1"
"""Rather than after five seconds."""


@contextmanager
def _node(*arguments: str | Path, after: str = "") -> Generator[subprocess.Popen[bytes]]:
    with started("node", *arguments, after=after) as running:
        try:
            yield running
        finally:
            running.kill()


def _says(running: subprocess.Popen[bytes], text: str) -> str:
    """All that it says, up to the line that holds this text."""
    assert running.stderr is not None
    heard = ""
    limit = Timer(HANG_LIMIT, running.kill)
    limit.start()
    while text not in heard:
        line = running.stderr.readline().decode()
        assert line, f"it ended, and said only: {heard}"
        heard += line
    limit.cancel()
    return heard


def _server_of(running: subprocess.Popen[bytes]) -> int:
    (keeper,) = children_of(running.pid)
    (server,) = children_of(keeper)
    return server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_node_says_where_to_connect_and_ends_with_0_when_it_is_told_to(
    tmp_path: Path, number: signal.Signals
) -> None:
    place = free_place()
    with _node("--name", "a", "--data", tmp_path, "--listen", place, "--token", "s3cret") as running:
        heard = _says(running, "all copies are current")
        assert f"rehydrate: a: starts; alone, data in {tmp_path}" in heard
        assert f"rehydrate: a: a store on it is nats://TOKEN@{place}/NAME?replicas=1&sync=always\n" in heard
        server = _server_of(running)
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=HANG_LIMIT)
        assert running.returncode == 0
        assert stdout == b""
        assert stderr.decode().splitlines()[-1] == "rehydrate: a: has ended"
        assert "s3cret" not in heard + stderr.decode()
        assert not is_running(server)


async def test_a_node_that_nobody_listens_to_any_more_goes_on_and_ends_with_0_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    with _node("--name", "a", "--data", tmp_path, "--listen", free_place()) as running:
        _says(running, "all copies are current")
        assert running.stderr is not None
        running.stderr.close()
        server = _server_of(running)
        os.kill(server, signal.SIGKILL)  # which it would say
        await until(lambda: _serves_again(running, server))
        running.send_signal(signal.SIGTERM)
        assert running.wait(HANG_LIMIT) == 0


def _serves_again(running: subprocess.Popen[bytes], after: int) -> bool:
    return any(
        server != after and is_running(server)
        for keeper in children_of(running.pid)
        for server in children_of(keeper)
    )


async def test_a_node_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    with _node("--name", "a", "--data", tmp_path, "--listen", free_place()) as running:
        _says(running, "ready, at")
        server = _server_of(running)
        running.kill()
        await until(lambda: not is_running(server))


def test_a_node_that_waits_for_its_peers_says_so_and_can_be_ended(tmp_path: Path) -> None:
    peers = ",".join(f"{name}={free_place()}" for name in "abc")
    with _node("--name", "a", "--data", tmp_path, "--peers", peers, after=_SAYS_SOON) as running:
        heard = _says(running, "2 are needed: waiting for b at")
        assert "one of 3, with b and c" in heard
        running.send_signal(signal.SIGTERM)
        assert running.wait(HANG_LIMIT) == 0


def test_three_nodes_say_whom_they_see_and_who_leads_and_commands_run_on_them(tmp_path: Path) -> None:
    places = three_places()
    peers = ",".join(f"{name}={place}" for name, place in places.items())

    def node(name: str) -> list[str | Path]:
        return ["--name", name, "--data", tmp_path / name, "--peers", peers, "--token", "s3cret"]

    with _node(*node("a")) as a, _node(*node("b")) as b, _node(*node("c")) as c:
        for running, others in ((a, "b and c"), (b, "a and c"), (c, "a and b")):
            if "the leader is " not in _says(running, f"connected with {others}\n"):
                _says(running, "the leader is ")
        store = f"nats://s3cret@{places['b']}/bank?replicas=3&sync=always"
        ran = process("run", BANK, "--store", store, stdin=deposit("ada", 5))
        assert ran.code == 0, ran.stderr
        c.kill()
        _says(a, "connected with b, not with c")


def test_what_has_to_catch_up_is_said_and_that_it_has_too(tmp_path: Path) -> None:
    node = Node(name="a", data=tmp_path, peers=three_places())
    well = NodeHealth(is_ready=True, connected=("b", "c"), missing=(), leader="b", behind=(), error="")
    of_its_own = "JetStream stream '$G > bank-events' is not current: group node unhealthy"
    said = [
        sentences(health, node)[2:]
        for health in (
            well,
            replace(well, error=of_its_own),
            replace(well, error="JetStream is not current with the meta leader"),
            replace(well, behind=("bank-events",)),
        )
    ]
    assert said == [
        ["all copies are current"],
        ["its own copy has to catch up: bank-events"],
        ["the server says: JetStream is not current with the meta leader"],
        ["copies that have to catch up: bank-events"],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--name", "a"], 2, "Missing option"),
        (["--name", "a", "--data", "d", "--tls-key", "k"], 2, "TLS needs all three"),
        (["--name", "a", "--data", "d", "--max-bytes", "0"], 2, "max-bytes"),
        (["--name", "a", "--data", "d", "--listen", "4222"], 1, "rehydrate: '4222' is no HOST:PORT"),
        (["--name", "a", "--data", "d", "--listen", "10.0.0.1:4222"], 1, "give it a token and TLS"),
        (["--name", "a", "--data", "d", "--peers", "a=127.0.0.1:1,b=127.0.0.1:2"], 1, "1, 3 or 5 nodes"),
    ],
)
def test_what_cannot_be_a_node_is_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    ended = typed("node", *arguments)
    assert ended.code == code
    assert sentence in ended.stderr
    if code == 1:
        assert len(ended.stderr.splitlines()) == 1


def test_a_port_that_is_in_use_is_one_sentence_and_code_1(tmp_path: Path) -> None:
    port = free_port()
    with closing(create_server(("127.0.0.1", port))):
        ended = process("node", "--name", "a", "--data", tmp_path, "--listen", f"127.0.0.1:{port}")
    assert ended.code == 1
    last = ended.stderr.splitlines()[-1]
    assert f"another program listens on 127.0.0.1:{port}" in last
    assert "Traceback" not in ended.stderr
