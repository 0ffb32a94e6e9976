"""The connections that read, and that write what is beside the log: a few, opened when they are needed.

Not the driver's own pool: that asks the server to end what a cancelled caller has begun, and waits for it before the
connection is free again, over a network that may be gone. Here whoever is cancelled goes at once, and what he has begun
keeps its connection until it has ended, or its time is up: a session that is left in the middle goes on at the server,
and another one beside it would be one too many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.store.postgres.address import Address
from rehydrate.store.postgres.connection import Connection, connect, disconnect, noticing_its_end
from rehydrate.store.postgres.failures import FAILURES, as_store_error, is_of_a_value, is_of_the_connection

T = TypeVar("T")

MAX_IDLE: Final = 300.0
"""Seconds after which an unused connection is not trusted any more: what stands between may have forgotten it."""


class Pool:
    """At most so many connections to the primary, or to the replica."""

    def __init__(self, address: Address, *, replica: bool = False) -> None:
        self._address = address
        self._replica = replica
        self._free = asyncio.Semaphore(address.pool)
        self._idle: list[tuple[Connection, float]] = []
        self._used: set[Connection] = set()
        self._connecting: set[asyncio.Task[Connection]] = set()
        self._doing: set[asyncio.Task[Any]] = set()
        """Whatever has its turn: it may be that nobody waits for it any more."""
        self._closed: str | None = None

    async def read(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask. An idle connection that turns out to be dead is replaced, unnoticed."""
        return await self._in_turn(self._read, question)

    async def change(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something, once; where the answer is lost it is not known whether it was done."""
        return await self._in_turn(self._change, question)

    async def _read(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        while True:
            connection, is_new = await self._take()
            try:
                return await self._ask(connection, question)
            except StoreUnavailableError as error:
                was_dead = connection.is_closed() and not isinstance(error.__cause__, TimeoutError)
                if is_new or not was_dead or self._closed is not None:
                    raise

    async def _change(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        connection, _ = await self._take()
        return await self._ask(connection, question)

    async def _in_turn(
        self,
        do: Callable[[Callable[[Connection], Awaitable[T]]], Coroutine[None, None, T]],
        question: Callable[[Connection], Awaitable[T]],
    ) -> T:
        try:
            async with asyncio.timeout(self._address.statement_timeout):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailableError(
                f"{self._address.place}: all {self._address.pool} connections (pool=) are busy"
            ) from None
        if self._closed is not None:
            self._free.release()
            raise StoreClosedError(self._closed)
        # A task of its own: its turn ends when its session is free again, and not when its caller has gone.
        doing = asyncio.create_task(do(question))
        self._doing.add(doing)
        doing.add_done_callback(self._done)
        return await asyncio.shield(doing)

    def _done(self, doing: asyncio.Task[Any]) -> None:
        self._doing.discard(doing)
        self._free.release()
        if not doing.cancelled():
            doing.exception()  # If its caller has gone, nobody else will look at it, and asyncio would tell of it.

    async def _ask(self, connection: Connection, question: Callable[[Connection], Awaitable[T]]) -> T:
        keep = False
        try:
            with noticing_its_end(connection):
                answer = await question(connection)
            keep = True
            return answer
        except FAILURES as error:
            if is_of_a_value(error):
                keep = True
                raise ValueError(f"this cannot be asked for: {error}") from None
            if self._closed is not None:
                raise StoreClosedError(self._closed) from None
            keep = not is_of_the_connection(error)
            raise as_store_error(error, self._address.place, stored=None) from error
        finally:
            self._used.discard(connection)
            if keep and self._closed is None and not connection.is_closed():
                self._idle.append((connection, time.monotonic()))
            else:
                connection.terminate()

    async def _take(self) -> tuple[Connection, bool]:
        """A connection, and whether it was just made."""
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed() and time.monotonic() - since < MAX_IDLE:
                self._used.add(connection)
                return connection, False
            connection.terminate()
        if self._closed is not None:
            raise StoreClosedError(self._closed)
        connection = await self._connect()
        self._used.add(connection)
        return connection, True

    async def _connect(self) -> Connection:
        connecting = asyncio.create_task(connect(self._address, replica=self._replica))
        self._connecting.add(connecting)
        try:
            connection = await connecting
        except asyncio.CancelledError:
            if self._closed is not None:
                raise StoreClosedError(self._closed) from None
            raise
        finally:
            self._connecting.discard(connecting)
        if self._closed is not None:
            connection.terminate()
            raise StoreClosedError(self._closed)
        return connection

    async def close(self, reason: str) -> None:
        """Close all; who still waits for an answer gets none."""
        self._closed = reason
        for connection in self._used:
            connection.terminate()
        for connecting in self._connecting:
            connecting.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*[disconnect(connection) for connection, _ in idle])
        await asyncio.gather(*self._doing, return_exceptions=True)
