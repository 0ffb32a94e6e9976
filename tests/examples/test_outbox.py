"""The outbox example, on a real NATS server and a real HTTP server: each event arrives, in order, and repeats are told."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest

from examples.bank.account import Deposit
from examples.bank.aggregates import bank_account
from examples.outbox.__main__ import app
from rehydrate.store.port import LogFilter
from rehydrate.testing.clock import until
from rehydrate.testing.servers.nats import NatsServer

ROOT = Path(__file__).parents[2]


class Receiver(ThreadingHTTPServer):
    """Somebody's endpoint: it fails now and then, also after it has taken what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.requests = 0
        self.taken: dict[str, dict[str, Any]] = {}
        self.repeats = 0

    def take(self, key: str, body: bytes) -> int:
        self.requests += 1
        if self.requests % 5 == 0:
            return 503
        self.repeats += key in self.taken
        self.taken.setdefault(key, msgspec.json.decode(body))
        return 500 if self.requests % 7 == 0 else 204


class _Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/cloudevents+json"
        self.send_response(receiver.take(self.headers["Idempotency-Key"], body))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nobody reads it."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def outbox(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.outbox", "--takeover-after", "0.5", *arguments),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_every_event_reaches_the_webhook_also_when_both_sides_fail(
    tmp_path: Path, receiver: Receiver
) -> None:
    store = f"sqlite:///{tmp_path / 'bank.db'}"
    url = f"http://127.0.0.1:{receiver.server_port}/events"
    async with app.open(store, consumers=False) as bank:
        for n in range(12):
            await bank.dispatch(bank_account, f"a{n % 3}", Deposit(n + 1))
        killed = await outbox("--store", store, "--webhook", url)
        await until(lambda: len(receiver.taken) >= 4)
        killed.kill()
        await killed.communicate()
        for n in range(12, 20):
            await bank.dispatch(bank_account, f"a{n % 3}", Deposit(n + 1))
        again = await outbox("--store", store, "--webhook", url)
        await until(lambda: len(receiver.taken) == 20)
        again.send_signal(signal.SIGTERM)
        _, said = await again.communicate()
        assert again.returncode == 0, said.decode()
    assert receiver.repeats > 0
    assert set(receiver.taken) == {f"/bank {n}" for n in range(1, 21)}
    event = receiver.taken["/bank 1"]
    assert event["specversion"] == "1.0"
    assert (event["id"], event["source"], event["type"]) == ("1", "/bank", "bank_account.Deposited")
    assert (event["subject"], event["data"]) == ("a0", {"amount": 1})


async def test_every_event_is_once_in_the_jetstream_stream(tmp_path: Path, nats_server: NatsServer) -> None:
    store = f"sqlite:///{tmp_path / 'bank.db'}"
    prefix = f"outbox_{tmp_path.name}"
    server = nats_server.fresh_url().rpartition("/")[0]
    client: Any = await nats.connect(server)  # pyright: ignore[reportUnknownMemberType]
    try:
        jetstream: Any = client.jetstream()
        await jetstream.add_stream(name=prefix, subjects=[f"{prefix}.>"])
        async with app.open(store, consumers=False) as bank:
            for n in range(300):
                await bank.dispatch(bank_account, f"a{n % 3}", Deposit(n + 1))
            arrived = await jetstream.subscribe(f"{prefix}.>", ordered_consumer=True)
            for stored in (50, 250):
                publisher = await outbox("--store", store, "--nats", server, "--prefix", prefix)
                for _ in range(stored):
                    await arrived.next_msg(timeout=30)
                publisher.kill()
                await publisher.communicate()
            log = await bank.store.read_all(where=LogFilter(), limit=1_000)
        messages = [await jetstream.get_msg(prefix, seq=n) for n in range(1, 301)]
        assert (await jetstream.stream_info(prefix)).state.messages == 300
        assert [msgspec.json.decode(message.data or b"")["id"] for message in messages] == [
            str(event.position) for event in log.events
        ]
        assert messages[0].subject == f"{prefix}.bank_account.Deposited"
    finally:
        await client.close()
