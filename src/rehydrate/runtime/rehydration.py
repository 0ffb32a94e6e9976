"""From stored events to state: the only part of an actor's life that reads the store.

`rehydrate` begins at a snapshot or at nothing, `catch_up` at a state that somebody else has overtaken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rehydrate.codec.upcast import UpcastError
from rehydrate.errors import (
    RehydrateError,
    StoreUnavailableError,
    StreamQuarantinedError,
    UndecodableEventError,
    UnknownEventError,
)
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.budget import within
from rehydrate.runtime.decision import describe
from rehydrate.runtime.limits import WINDOW_EVENTS
from rehydrate.store.port import ReplayPage, StoredEvent, StoredSnapshot

_log = logging.getLogger(__name__)

_FOLD_SLICE = 256
"""Events that are folded between two turns of the event loop."""


class Recovered(msgspec.Struct, frozen=True):
    """A state and the place in the stream that it stands for."""

    state: Any
    version: int
    position: int
    last_id: str
    snapshot_version: int


async def rehydrate(
    blueprint: Blueprint[Any, Any, Any], stream: str, *, use_snapshot: bool = True
) -> Recovered:
    """Rebuild the state from the newest snapshot that counts, if any, and the events after it.

    Raises `StreamQuarantinedError` if stored events cannot be decoded or folded, and `ConfigurationError` where
    `decide` or `evolve` was seen to change in place what an aggregate begins with.
    """
    blueprint.check_begun()
    if (
        use_snapshot
        and blueprint.snapshot is not None
        and (snapshot := await _load_snapshot(blueprint, stream))
    ):
        recovered = await _from_snapshot(blueprint, stream, *snapshot)
        if recovered is not None:
            return recovered
    page = await blueprint.manager.store.replay(stream)
    begun = blueprint.beginning.new()
    recovered = await _replay(blueprint, stream, Recovered(begun, 0, 0, "", 0), page)
    blueprint.check_begun(begun)
    return recovered


async def _replay(
    blueprint: Blueprint[Any, Any, Any], stream: str, start: Recovered, page: ReplayPage
) -> Recovered:
    """Fold a page, which follows `start`, and all pages behind it."""
    state, version, position, last_id = start.state, start.version, start.position, start.last_id
    while True:
        if page.rows:
            state = await fold_rows(blueprint, stream, state, version, page.rows)
            version += len(page.rows)
            position, last_id = page.last_position, page.last_id
        if page.is_last or not page.rows:
            return Recovered(state, version, position, last_id, start.snapshot_version)
        page = await _page_behind(blueprint, stream, version, page)


async def _page_behind(
    blueprint: Blueprint[Any, Any, Any], stream: str, version: int, page: ReplayPage
) -> ReplayPage:
    """The page after `version`, which ends the page that was folded; the store may have read it meanwhile.

    Raises `WentBackError` if that version is another event by now: a state is never of two histories.
    """
    if page.rest is not None and (read_already := await page.rest) is not None:
        return read_already
    replay = blueprint.manager.store.replay
    behind = await replay(stream, after=version - 1, near=page.last_position)
    if behind.first_id != page.last_id:
        raise WentBackError(f"its event {version} is {behind.first_id or 'gone'} and was {page.last_id}")
    if len(behind.rows) == 1 and not behind.is_last:
        # It is so large that there was no room for another.
        return await replay(stream, after=version, near=page.last_position)
    return msgspec.structs.replace(behind, rows=behind.rows[1:])


async def _load_snapshot(
    blueprint: Blueprint[Any, Any, Any], stream: str
) -> tuple[StoredSnapshot, Any] | None:
    """The newest snapshot and its state, if it can be read; anything else is a warning and a replay."""
    manager, policy, codec = blueprint.manager, blueprint.snapshot, blueprint.codecs.state
    assert policy is not None
    assert codec is not None
    try:
        snapshot = await within(
            manager.clock,
            manager.limits.recovery_timeout / 4,
            manager.snapshots.load_snapshot(stream),
            "the snapshot store did not answer",
        )
    except Exception as error:  # noqa: BLE001 - a snapshot store may fail as it likes
        _log.warning("%s: its snapshot could not be loaded, replaying all events: %s", stream, error)
        return None
    if snapshot is None:
        return None
    if (snapshot.schema, snapshot.fingerprint) != (policy.schema, codec.fingerprint):
        _log.info("%s: its snapshot at version %s is of another shape, replaying", stream, snapshot.version)
        return None
    try:
        return snapshot, codec.decode(snapshot.data)
    except Exception as error:  # noqa: BLE001 - whatever a codec raises, the events are there
        _log.warning(
            "%s: its snapshot at version %s cannot be read, replaying: %s", stream, snapshot.version, error
        )
        return None


async def _from_snapshot(
    blueprint: Blueprint[Any, Any, Any], stream: str, snapshot: StoredSnapshot, state: Any
) -> Recovered | None:
    """Go on from a snapshot if the stream still holds its last event; a log that was restored may not."""
    page = await blueprint.manager.store.replay(stream, after=snapshot.version - 1, near=snapshot.position)
    if not snapshot_counts(snapshot, page.rows, page.first_id):
        _log.warning(
            "%s: its snapshot at version %s is of events that the store no longer has, replaying; "
            "was the store restored from an older copy?",
            stream,
            snapshot.version,
        )
        await _delete_snapshots(blueprint, stream)
        return None
    state = await fold_rows(blueprint, stream, state, snapshot.version, page.rows[1:])
    version = snapshot.version + len(page.rows) - 1
    recovered = Recovered(state, version, page.last_position, page.last_id, snapshot.version)
    if page.is_last:
        return recovered
    return await _replay(blueprint, stream, recovered, await _page_behind(blueprint, stream, version, page))


async def _delete_snapshots(blueprint: Blueprint[Any, Any, Any], stream: str) -> None:
    """An older snapshot never replaces a newer: one that is ahead of its stream would shut out all that follow."""
    try:
        await blueprint.manager.snapshots.delete_snapshots(stream)
    except Exception as error:  # noqa: BLE001 - a snapshot store may fail as it likes
        _log.warning("%s: its snapshots could not be deleted: %s", stream, error)


def snapshot_counts(snapshot: StoredSnapshot, rows: Sequence[tuple[int, str, bytes]], first_id: str) -> bool:
    """Whether the events read from the snapshot's version on begin with the event that it was taken at."""
    return bool(rows) and rows[0][0] == snapshot.version and first_id == snapshot.event_id


async def fold_rows(
    blueprint: Blueprint[Any, Any, Any],
    stream: str,
    state: Any,
    version: int,
    rows: Sequence[tuple[int, str, bytes]],
) -> Any:
    """Fold consecutive events that follow `version`, giving way to the loop between slices."""
    if rows and (rows[0][0], rows[-1][0]) != (version + 1, version + len(rows)):
        raise StreamQuarantinedError(stream, rows[0][0], rows[0][1], f"versions have a gap after {version}")
    if len(rows) <= _FOLD_SLICE:
        return _fold(blueprint, stream, state, rows)
    for start in range(0, len(rows), _FOLD_SLICE):
        state = _fold(blueprint, stream, state, rows[start : start + _FOLD_SLICE])
        await asyncio.sleep(0)
    return state


def _fold(
    blueprint: Blueprint[Any, Any, Any], stream: str, state: Any, rows: Sequence[tuple[int, str, bytes]]
) -> Any:
    decoders, evolve = blueprint.decoders, blueprint.evolve
    version, type, data = 0, "", b""
    try:
        for version, type, data in rows:  # noqa: B007 - named where it fails
            state = evolve(state, decoders[type](data))
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        cause = error if type in decoders else UnknownEventError(type, tuple(sorted(decoders)))
        reason = str(cause) if isinstance(cause, UpcastError) else describe(cause)
        if cause is error and not isinstance(error, UpcastError) and not _fits(decoders[type], data):
            reason = f"{reason}; give a new field a default, or add an upcaster to the codec"
        raise StreamQuarantinedError(stream, version, type, reason) from cause
    return state


def _fits(decode: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether stored bytes can be decoded: then it is `evolve` that failed at them."""
    try:
        decode(data)
    except Exception:  # noqa: BLE001 - whatever a codec raises
        return False
    return True


class WentBackError(StoreUnavailableError):
    """The store no longer holds what it held: it was restored from an older copy. Try again."""


class CaughtUp(msgspec.Struct, frozen=True):
    """A newer state, and the events that led to it: the last of them, where they were very many."""

    state: Any
    events: list[StoredEvent]


async def catch_up(
    blueprint: Blueprint[Any, Any, Any], stream: str, state: Any, version: int, last_id: str
) -> CaughtUp:
    """Fold the events after `version`.

    Raises `WentBackError` if the event at `version` is not the one with that id: then this is another history.
    """
    events: list[StoredEvent] = []
    after = max(0, version - 1)
    while True:
        page = await blueprint.manager.store.read_stream(stream, after=after)
        new = page.events
        if new and after < version:
            if new[0].id != last_id:
                raise WentBackError(f"its event {version} is {new[0].id} and was {last_id}")
            new = new[1:]
        rows = [(event.version, event.type, event.data) for event in new]
        state = await fold_rows(blueprint, stream, state, version, rows)
        version += len(rows)
        events = (events + new)[-2 * WINDOW_EVENTS :]
        if page.is_last or not page.events:
            return CaughtUp(state, events)
        # Again with the last event, by which it shows whether it still is the same history; but for one that is so large
        # that there was no room for another.
        after = version - 1 if new else version
        last_id = events[-1].id if new else last_id


def decode_event(decoders: Mapping[str, Any], event: StoredEvent) -> Any:
    """One stored event as a value.

    Raises `UnknownEventError` or `UndecodableEventError`.
    """
    decode = decoders.get(event.type)
    if decode is None:
        raise UnknownEventError(event.type, tuple(sorted(decoders)))
    try:
        return decode(event.data)
    except UpcastError as error:
        raise UndecodableEventError(
            event.type, f"{event.stream} version {event.version}", mend=str(error)
        ) from error
    except Exception as error:
        raise UndecodableEventError(
            event.type, f"{event.stream} version {event.version}: {describe(error)}"
        ) from error


def as_rehydrate_error(error: Exception) -> RehydrateError:
    """What went wrong in a read, as something that the callers can expect: nothing of their commands was stored."""
    if isinstance(error, StoreUnavailableError) and error.stored is not False:
        failure = StoreUnavailableError(error.reason, retryable=error.retryable)
    elif isinstance(error, RehydrateError):
        return error
    else:
        failure = StoreUnavailableError(f"the store failed: {describe(error)}")
    failure.__cause__ = error
    return failure
