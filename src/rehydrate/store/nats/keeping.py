"""Messages of which the last of each subject counts: snapshots, checkpoints and views."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from rehydrate.errors import InvalidIdError, StoreClosedError, StoreUnavailableError
from rehydrate.nats.connection import Connection, NotAnsweredError
from rehydrate.store.nats import failures
from rehydrate.store.nats.failures import ApiError, JetStreamError
from rehydrate.store.nats.jetstream import decode_ack

EXPECTS: Final = "Nats-Expected-Last-Subject-Sequence"
_HEADERS: Final = 512
"""Bytes of a message that are not ours."""
_PATIENCE: Final = 1.0
_PAUSE: Final = 0.01
_encode: Final = msgspec.msgpack.Encoder().encode
_IN_THE_WAY: Final = frozenset({failures.IN_DOUBT, failures.TOO_MANY_BATCHES, failures.BATCH_INCOMPLETE})


class Attempts:
    """Until when to try something again, and how long to wait between."""

    def __init__(self, timeout: float, shown: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up = self._loop.time() + timeout
        self._shown = shown
        self._pause = _PAUSE

    async def pause(self, why: object) -> None:
        """Wait a moment; raises `StoreUnavailableError` when it has taken too long."""
        if self._loop.time() + self._pause > self._give_up:
            raise StoreUnavailableError(f"{self._shown}: {why}", stored=None)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, 0.25)


def packed(record: msgspec.Struct) -> bytes:
    """A record as it is kept; raises `InvalidIdError` for a name in it that is no text."""
    try:
        return _encode(record)
    except UnicodeEncodeError:
        raise InvalidIdError("name", "it holds a lone surrogate, which is not a character") from None


class Unknown(Exception):
    """It is not known whether what was sent is stored, or will be."""


class Keeper:
    """Stores such messages, each on its expectation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shown = connection.address.shown
        self._timeout = connection.address.timeout

    def attempts(self) -> Attempts:
        return Attempts(self._timeout, self._shown)

    def check_size(self, what: str, data: bytes) -> None:
        """Raise what a message that no server takes deserves."""
        limit = self._connection.max_payload - _HEADERS
        if len(data) > limit:
            raise StoreUnavailableError(
                f"{self._shown}: {what} has {len(data):,} bytes, and the server takes {limit:,}: raise its max_payload",
                retryable=False,
            )

    async def store(
        self, subject: str, data: bytes, *, last: int, headers: Mapping[str, str] | None = None
    ) -> int | None:
        """Store a message where another one is the last of its subject (0: none); its number, or None where it is not.

        Raises `Unknown`.
        """
        return await self._stored(subject, data, {EXPECTS: str(last), **(headers or {})})

    async def store_as_one(
        self, batch: str, messages: Sequence[tuple[str, bytes, Mapping[str, str]]]
    ) -> int | None:
        """Store messages all or none, each with its headers; the number of the last, or None where an expectation fails.

        Raises `Unknown`.
        """
        for n, (subject, data, headers) in enumerate(messages, 1):
            numbered = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(n), **headers}
            if n < len(messages):
                self._connection.tell(subject, data, headers=numbered)
            else:
                return await self._stored(subject, data, {**numbered, "Nats-Batch-Commit": "1"})
        raise ValueError("a batch has at least one message")

    async def _stored(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int | None:
        try:
            answer = await self._connection.ask(
                subject, data, headers=headers, timeout=min(_PATIENCE, self._timeout)
            )
        except NotAnsweredError as error:
            if self._connection.closed is not None:
                raise StoreClosedError(self._connection.closed) from None
            raise Unknown(error.reason) from None
        ack = decode_ack(answer.data)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code == failures.WRONG_LAST:
            return None
        raise self._refused(ack.error)

    def _refused(self, error: ApiError) -> Exception:
        if error.err_code in failures.FULL:
            return StoreUnavailableError(
                f"{self._shown} takes no more bytes ({error.description}): raise the storage limit of the server",
                retryable=False,
            )
        if error.err_code in _IN_THE_WAY or error.code == failures.UNAVAILABLE:
            return Unknown(error.description)
        return StoreUnavailableError(f"{self._shown}: JetStream refuses: {JetStreamError(error)}")
