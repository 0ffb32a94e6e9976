"""What a user declares: a handler that writes into tables of the user's own, each event exactly once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.policy import STOP, ErrorPolicy, is_whole
from rehydrate.domain.subscription import After, Subscription
from rehydrate.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransactionalHandler:
    """A handler that gets events in order, and with each the open transaction of the store's own database.

    What it writes there is committed together with its place in the log, or not at all: each event counts exactly once.
    On SQLite it is a plain function and gets a `sqlite3.Connection`; on PostgreSQL a coroutine function that gets an
    `asyncpg.Connection`; on MongoDB a coroutine function that gets PyMongo's `AsyncClientSession`.

    Raises `ConfigurationError` when a field cannot work; the rest is checked when the `App` is built, and opened.
    """

    name: str
    """The key to its place in the log, and so data."""
    handler: Callable[[Any, Any], object]
    """`handler(envelope, connection)`. It holds only rows of its own, is quick, and leaves commit and rollback alone."""
    aggregates: Sequence[Aggregate[Any, Any, Any]] = ()
    """Only their events; by default those of every aggregate of the App."""
    types: Sequence[type] = ()
    """Only events of these classes; and what this code does not know, which is treated like what the handler fails at."""
    partition_by: Callable[[Any], str] | None = None
    """The key of an envelope: with `Park`, whose later events a failed one holds back. By default the stream."""
    batch: int = 100
    """How many events share a transaction, at most."""
    on_error: ErrorPolicy = STOP
    after: After = 0
    """Where it begins when it has no place yet: behind this position, by default at the first event; or `NEWEST`."""
    subscription: Subscription = field(init=False, repr=False)
    """The same, for what reads the log."""

    def __post_init__(self) -> None:
        if not is_whole(self.batch, at_least=1):
            raise ConfigurationError(
                f"transactional handler {self.name!r}: batch={self.batch!r} must be at least 1"
            )
        try:
            subscription = Subscription(
                name=self.name,
                handler=self.handler,  # type: ignore[arg-type]  # It is called with one argument more.
                aggregates=self.aggregates,
                types=self.types,
                partition_by=self.partition_by,
                on_error=self.on_error,
                after=self.after,
            )
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("subscription", "transactional handler", 1)) from None
        object.__setattr__(self, "subscription", subscription)

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        return inspect.iscoroutinefunction(self.handler)


def check_transactional(handlers: Sequence[TransactionalHandler], transaction: str, store: str) -> None:
    """Raise `ConfigurationError` for handlers that a store cannot call.

    `transaction` is whose transaction the store gives, and `store` where it is.
    """
    for handler in handlers:
        if not transaction:
            raise ConfigurationError(
                f"transactional handler {handler.name!r}: {store} has no transaction to give; use SQLite, PostgreSQL or "
                "MongoDB, or declare a Projection or a Subscription"
            )
        if handler.is_async == (transaction == "sqlite3"):
            kind = "a plain function" if transaction == "sqlite3" else "a coroutine function (async def)"
            raise ConfigurationError(f"transactional handler {handler.name!r}: on {store} it must be {kind}")
