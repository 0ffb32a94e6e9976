"""What a user declares: a handler that is called for events, at least once for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from rehydrate.domain.aggregate import Aggregate, check_is_aggregate
from rehydrate.domain.policy import STOP, ErrorPolicy, Park, Retry, Skip, Stop, is_whole
from rehydrate.domain.streams import check_id, check_stream, split_stream_name
from rehydrate.errors import ConfigurationError

NEWEST: Final = "newest"
"""`after` for a subscription that begins with what is stored after its first start."""

After: TypeAlias = int | Literal["newest"]

_CONSUMER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def check_consumer_name(kind: str, name: str) -> None:
    """Raise `ConfigurationError` unless the name can be that of a consumer."""
    if not _CONSUMER_NAME.fullmatch(str(name)):
        raise ConfigurationError(
            f"a {kind} cannot be named {name!r}: use letters, digits, '_', '.' and '-', at most 128, and begin with "
            "a letter or '_'"
        )
    if name.startswith("rehydrate."):
        raise ConfigurationError(f"a {kind} cannot be named {name!r}: 'rehydrate.' is for Rehydrate's own")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """A handler that gets events in order, from where it was, also after a restart: each at least once.

    Raises `ConfigurationError` when a field cannot work, and `InvalidIdError` for what can be no stream; the rest is
    checked when the `App` is built.
    """

    name: str
    """The key to its place in the log, and so data."""
    handler: Callable[[Any], object]
    """`async def handler(envelope)`, or with `batch` `async def handler(envelopes)`. A plain function runs in a thread."""
    aggregates: Sequence[Aggregate[Any, Any, Any]] = ()
    """Only their events; by default those of every aggregate of the App."""
    streams: Sequence[str] = ()
    """Only events of these streams, named `"<aggregate>-<id>"`."""
    types: Sequence[type] = ()
    """Only events of these classes; and what this code does not know, which is treated like what the handler fails at."""
    partition_by: Callable[[Any], str] | None = None
    """The key of an envelope: events of one key stay in order. By default the stream."""
    workers: int = 1
    """How many events, of different keys, are handled at the same time."""
    batch: int | None = None
    """How many events the handler gets at once, at most; by default it gets each alone."""
    on_error: ErrorPolicy = STOP
    after: After = 0
    """Where it begins when it has no place yet: behind this position, by default at the first event; or `NEWEST`."""

    def __post_init__(self) -> None:
        check_consumer_name("subscription", self.name)
        if not callable(self.handler):
            raise self._refused(f"handler={self.handler!r} must be a function")
        for field in ("workers", "batch"):
            value = getattr(self, field)
            if value is not None and not is_whole(value, at_least=1):
                raise self._refused(f"{field}={value!r} must be at least 1")
        if not isinstance(self.on_error, Stop | Skip | Park | Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._refused(
                f"on_error={self.on_error!r} must be a value: Stop(), Skip(), Park() or Retry()"
            )
        if self.after != NEWEST and not is_whole(self.after, at_least=0):
            raise self._refused(f"after={self.after!r} must be a position, or NEWEST")
        for field in ("aggregates", "streams", "types"):
            if isinstance(getattr(self, field), (str, type, Aggregate)):
                raise self._refused(f"{field}={getattr(self, field)!r} must be a list")
        for aggregate in self.aggregates:
            check_is_aggregate(f"subscription {self.name!r}", aggregate)
        for stream in self.streams:
            check_stream(stream)
            split_stream_name(stream)
        for kind in self.types:
            if not isinstance(kind, type):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise self._refused(f"types={kind!r}: give the class of the event itself")

    def _refused(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"subscription {self.name!r}: {reason}")


def check_consumer_names(consumers: Iterable[tuple[str, str]]) -> None:
    """Raise `ConfigurationError` where two of them, each a kind and a name, have the same name."""
    kinds: dict[str, str] = {}
    for kind, name in consumers:
        if (other := kinds.get(name)) is not None:
            which = f"two {kind}s" if kind == other else f"a {other} and a {kind}"
            raise ConfigurationError(f"{which} are named {name!r}: a name is the key to a place in the log")
        kinds[name] = kind


def check_key(key: object, kind: str) -> str:
    """The key as it may be stored. Raises `InvalidIdError` for what is none."""
    check_id(key, kind)  # type: ignore[arg-type]  # Whatever the user's function returned.
    assert isinstance(key, str)
    return str.__str__(key)
