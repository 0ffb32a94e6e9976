"""A process with a bank in it: `python -m tests.faults.worker URL`.

It takes orders as JSON lines on stdin and works on all of them at once. What came of each it tells as a JSON line on
stdout. At the order to close, and at the end of stdin, it closes the runtime under whatever is under way, and exits.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TypeAlias

import msgspec

from rehydrate import RehydrateError, Rejection, Runtime, StoreUnavailableError
from tests.bank import Command, Deposit, Split, Withdraw, account, app


class Run(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Deposit an amount in so many events, or withdraw a negative one; then `Stored` or `Refused` under that id."""

    id: str
    account: str
    amount: int
    parts: int = 1
    caused_at: int | None = None

    @property
    def command(self) -> Command:
        if self.parts > 1:
            return Split(self.amount, self.parts)
        return Deposit(self.amount) if self.amount > 0 else Withdraw(-self.amount)


class Ask(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Show the state of an account; then `Shown` or `Refused` under that id."""

    id: str
    account: str


class Close(msgspec.Struct, frozen=True, tag=True):
    """Close the runtime; then `Closed`, after everything else has been told."""


Order: TypeAlias = Run | Ask | Close


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The runtime is open."""


class Stored(msgspec.Struct, frozen=True, tag=True):
    id: str
    version: int
    position: int


class Shown(msgspec.Struct, frozen=True, tag=True):
    id: str
    balance: int
    changes: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    id: str
    error: str
    facts: dict[str, object] = {}
    """Of a rejection."""
    is_rejection: bool = False
    stored: bool | None = False
    """What a `StoreUnavailableError` says."""


class Closed(msgspec.Struct, frozen=True, tag=True):
    """Everything that was ordered has been answered."""


News: TypeAlias = Ready | Stored | Shown | Refused | Closed

_LINE = 2**20


def tell(news: News) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(news) + b"\n")
    sys.stdout.buffer.flush()


async def carry_out(bank: Runtime, order: Run | Ask) -> None:
    try:
        match order:
            case Run():
                result = await bank.dispatch(
                    account, order.account, order.command, command_id=order.id, caused_at=order.caused_at
                )
                tell(Stored(order.id, result.version, result.position))
            case Ask():
                state = await bank.state(account, order.account)
                tell(Shown(order.id, state.balance, state.changes))
    except Rejection as no:
        tell(Refused(order.id, type(no).__name__, no.facts, is_rejection=True))
    except RehydrateError as error:
        stored = error.stored if isinstance(error, StoreUnavailableError) else False
        tell(Refused(order.id, type(error).__name__, stored=stored))


async def main(url: str) -> None:
    lines = asyncio.StreamReader(limit=_LINE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    decoder = msgspec.json.Decoder[Order](Order)
    # The runtime is closed first, under what the tasks wait for.
    async with asyncio.TaskGroup() as working, app.open(url) as bank:
        tell(Ready())
        while line := await lines.readline():
            order = decoder.decode(line)
            if isinstance(order, Close):
                break
            working.create_task(carry_out(bank, order))
            # So that it is under way before the next order is read.
            await asyncio.sleep(0)
    tell(Closed())
    transport.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
