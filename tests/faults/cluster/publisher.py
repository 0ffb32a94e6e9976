"""The measure of all things: plain JetStream publishes through the same fault, `python -m tests.faults.cluster.publisher JSON`.

Each caller publishes on a subject of its own, each message with the place of the one before it as its expectation, as a
careful program would, and again until it is acknowledged. What it writes down is a journal as of an application.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import sys
from pathlib import Path

import msgspec
from nats.aio.client import Client
from nats.errors import Error as ClientError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from tests.faults.cluster.journal import Failed, Journal, Shown

STREAM = "plain"
_START = 20.0
"""Seconds after which it is begun anew."""
_WRONG = re.compile(r"wrong last sequence: (\d+)")


class PlainOrders(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    servers: list[str]
    token: str
    authority: str
    journal: str
    copies: int = 3
    callers: int = 8
    pause: float = 0.05
    timeout: float = 2.0


class Publisher:
    def __init__(self, jetstream: JetStreamContext, orders: PlainOrders, journal: Journal) -> None:
        self._jetstream = jetstream
        self._orders = orders
        self._journal = journal
        self.is_over = False

    async def call(self, number: int) -> None:
        subject = f"{STREAM}.{self._orders.name}-{number}"
        last, sent = 0, 0
        while not self.is_over:
            sent += 1
            last = await self._insist(subject, f"{subject}/{sent}", last)
            await asyncio.sleep(self._orders.pause * random.uniform(0.5, 1.5))

    async def _insist(self, subject: str, id: str, last: int) -> int:
        while True:
            if (stored := await self._publish(subject, id, last)) is not None:
                return stored
            await asyncio.sleep(random.uniform(0.05, 0.15))

    async def _publish(self, subject: str, id: str, last: int) -> int | None:
        loop, journal = asyncio.get_running_loop(), self._journal
        n = journal.ask(subject, id, amount=1)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        try:
            stored = (
                await self._jetstream.publish(
                    subject, b"x" * 200, timeout=self._orders.timeout, headers=headers
                )
            ).seq
        except APIError as error:
            wrong = _WRONG.search(error.description or "")
            if wrong is None or int(wrong[1]) <= last:
                journal.write(Failed(n, loop.time(), f"{error.err_code}", None))
                return None
            # Nobody else publishes here: it was stored by an attempt before, whose answer was lost.
            stored = int(wrong[1])
        except (ClientError, OSError) as error:
            journal.write(Failed(n, loop.time(), type(error).__name__, None))
            return None
        journal.write(Shown(n, loop.time(), stored, 0))
        return stored


async def lead(client: Client, node: str) -> str:
    """Have the JetStream stream led by that node, so that it meets the same fault as the store's."""
    question = json.dumps({"placement": {"preferred": node}}).encode()
    try:
        answer = await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", question, timeout=2)
    except ClientError as error:
        return repr(error)
    return answer.data.decode()


async def connect(orders: PlainOrders) -> tuple[Client, JetStreamContext]:
    """Until the servers have taken us, and made the JetStream stream: on a busy machine either may hang."""
    while True:
        client = Client()
        try:
            async with asyncio.timeout(_START):
                await client.connect(
                    orders.servers,
                    token=orders.token or None,
                    tls=ssl.create_default_context(cafile=orders.authority) if orders.authority else None,
                    max_reconnect_attempts=-1,
                    dont_randomize=True,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type] # it sleeps for so long
                    ping_interval=1,
                    max_outstanding_pings=2,
                    error_cb=_ignore,
                )
                jetstream = client.jetstream()
                await jetstream.add_stream(
                    StreamConfig(name=STREAM, subjects=[f"{STREAM}.>"], num_replicas=orders.copies)
                )
                return client, jetstream
        except (TimeoutError, ClientError, APIError, OSError) as error:
            print(f"once more: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - it is in the log of a failed test
            await client.close()


async def _ignore(_: Exception | None = None) -> None: ...


async def main(orders: PlainOrders) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)

    client, jetstream = await connect(orders)
    journal = Journal(Path(orders.journal))
    publisher = Publisher(jetstream, orders, journal)
    tasks = [asyncio.create_task(publisher.call(number)) for number in range(orders.callers)]
    print("ready", flush=True)  # noqa: T201 - it is what the test waits for
    while line := (await told.readline()).decode().strip():
        print(await lead(client, line), flush=True)  # noqa: T201
    publisher.is_over = True
    await asyncio.wait(tasks)
    journal.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=PlainOrders)))
