"""Stores in NATS, each with one mistake: the laws have to notice it."""

# pyright: reportPrivateUsage=false

from collections.abc import Mapping, Sequence
from typing import Any

from rehydrate.store.nats.history import Entry
from rehydrate.store.nats.log import EXPECTS, Append, Log
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.port import AppendWaiter, NewEvent
from rehydrate.store.url import open_store


class Mutant:
    @classmethod
    async def open_mutant(cls, url: str) -> NatsStore:
        store = await open_store(url)
        assert isinstance(store, NatsStore)
        cls.spoil(store)
        return store

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        raise NotImplementedError


class AppendsExpectNothing(Mutant):
    """Leaves it to what it knows whether an append may be stored."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        _expect_nothing(store, ".e.")


class RepeatSoughtAtTheEnd(Mutant):
    """Compares with the last append of the stream, and not with the one at the expected place."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        async def the_last(append: Append, last: Entry) -> Entry:
            del append
            return last

        store._log._behind_expected = the_last  # type: ignore[method-assign]


class LastEventNotCompared(Mutant):
    """Takes any event at the expected version for the one that the actor knows."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        log: Log = store._log
        submit = log.submit

        def spoiled(
            stream: str, events: Sequence[NewEvent], expected: int, waiter: AppendWaiter, last_id: str
        ) -> Any:
            del last_id
            return submit(stream, events, expected, waiter, "")

        log.submit = spoiled  # type: ignore[method-assign]


class RestOfMessageSkipped(Mutant):
    """Goes on behind the message in which a page ended."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        store._reader._is_end_of_message = lambda position: position > 0  # type: ignore[method-assign]


class SealsNothing(Mutant):
    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        async def seal() -> None:
            return

        store._seal = seal  # type: ignore[method-assign]


class ViewsBesideTheirPlace(Mutant):
    """Sends the views one by one, and then the checkpoint."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        keeper = store._consumers._keeper

        async def spoiled(batch: str, messages: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> int | None:
            del batch
            for subject, data, headers in messages[1:]:
                await keeper._stored(subject, data, headers)
            subject, data, headers = messages[0]
            return await keeper._stored(subject, data, headers)

        keeper.store_as_one = spoiled  # type: ignore[method-assign]


class PlaceExpectsNothing(Mutant):
    """Looks whether somebody has taken over, and does not say so to the server."""

    @classmethod
    def spoil(cls, store: NatsStore) -> None:
        _expect_nothing(store, ".c.")


def _expect_nothing(store: NatsStore, of: str) -> None:
    """Take the expectation from each message of these subjects."""
    connection = store._connection
    call, tell = connection.call, connection.tell

    def spoiled(subject: str, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        if headers is None or of not in subject:
            return headers
        return {key: value for key, value in headers.items() if key != EXPECTS}

    def spoiled_call(
        subject: str, payload: bytes, answered: Any, *, headers: Any = None, timeout: float | None = None
    ) -> None:
        call(subject, payload, answered, headers=spoiled(subject, headers), timeout=timeout)

    def spoiled_tell(subject: str, payload: bytes = b"", *, headers: Any = None) -> None:
        tell(subject, payload, headers=spoiled(subject, headers))

    connection.call = spoiled_call  # type: ignore[method-assign]
    connection.tell = spoiled_tell  # type: ignore[method-assign]
