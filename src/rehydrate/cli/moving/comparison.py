"""Two logs side by side: every event with all that is stored of it, and their order. Only positions may differ."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rehydrate.cli.moving.logs import Origin, Reader
from rehydrate.cli.table import visible
from rehydrate.errors import RehydrateError
from rehydrate.store.port import StoredEvent

_FIELDS = ("type", "data", "metadata", "recorded_at")
_WORDS = {"recorded_at": "recorded time"}


class NotACopyError(RehydrateError):
    """Two logs differ. What they hold is untouched; a retry says the same."""


class Compared(msgspec.Struct):
    """How far two logs were compared, and are the same."""

    events: int = 0
    source_position: int = 0
    destination_position: int = 0


async def compare(
    source: Origin,
    destination: Origin,
    events: Reader,
    copies: Reader,
    *,
    so_far: Compared,
    at_least: int = 0,
    advance: Callable[[Compared], object],
) -> None:
    """Read both, until the copies end, and move `so_far` on: at least to the event at that position of the source.

    Raises `NotACopyError` with the first difference.
    """
    while there := await copies.some():
        wanted = await events.some()
        if not wanted:
            raise NotACopyError(
                f"{destination.name} holds {_named(there[0])} at {destination.place(there[0].position)}, and it did not come from "
                f"{source.name}"
            )
        count = min(len(there), len(wanted))
        for event, copy in zip(wanted, there, strict=False):
            if not _is_same(event, copy):
                raise NotACopyError(_difference(source, destination, event, copy))
        so_far.events += count
        so_far.source_position = wanted[count - 1].position
        so_far.destination_position = there[count - 1].position
        events.take(count)
        copies.take(count)
        advance(so_far)
    if so_far.source_position < at_least and (missing := await events.some()):
        raise NotACopyError(
            f"{destination.name} lacks {_named(missing[0])}, which {source.name} holds at {source.place(missing[0].position)}"
        )


def _is_same(event: StoredEvent, copy: StoredEvent) -> bool:
    return (
        event.id == copy.id
        and event.version == copy.version
        and event.stream == copy.stream
        and event.type == copy.type
        and event.data == copy.data
        and event.metadata == copy.metadata
        and event.recorded_at == copy.recorded_at
    )


def _difference(source: Origin, destination: Origin, event: StoredEvent, copy: StoredEvent) -> str:
    if (event.stream, event.version, event.id) == (copy.stream, copy.version, copy.id):
        fields = [name for name in _FIELDS if getattr(event, name) != getattr(copy, name)]
        words = " and ".join(_WORDS.get(name, name) for name in fields)
        return (
            f"{_named(event)} differs in its {words} between {source.name} ({source.place(event.position)}) and "
            f"{destination.name} ({destination.place(copy.position)})"
        )
    ids = f" (ids {event.id} and {copy.id})" if _named(event) == _named(copy) else ""
    return (
        f"where {source.name} holds {_named(event)} ({source.place(event.position)}), {destination.name} holds {_named(copy)} "
        f"({destination.place(copy.position)}){ids}"
    )


def _named(event: StoredEvent) -> str:
    return f"version {event.version:,} of {visible(event.stream)}"
