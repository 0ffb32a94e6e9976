"""Commands that come a second time: an actor recognises the id and answers with the first result.

Nothing is kept until a command comes whose id the caller gave. Then the ids are read back from the metadata of the
stream's own tail, and kept up to date from there on.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from rehydrate.domain.envelope import CommandResult
from rehydrate.errors import DuplicateCommandError, MailboxFullError, OutcomeUnknownError
from rehydrate.runtime.decision import share_decision
from rehydrate.runtime.limits import WINDOW_EVENTS
from rehydrate.runtime.mailbox import Drain, Pending, reply
from rehydrate.runtime.rehydration import WentBackError, as_rehydrate_error, decode_event
from rehydrate.runtime.trail import Trail
from rehydrate.runtime.window import Seen, Window, command_id_of, commands_of, seen_in
from rehydrate.store.port import Store, StoredEvent

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor


_BACK = 256
"""Events that are read at a time to find where a command begins that is longer than the window."""


def knows(actor: AggregateActor[Any, Any, Any], pending: Pending) -> bool:
    """Whether the window reaches back far enough to tell if this command is a repeat."""
    if actor.window is None and (
        actor.version == 0 or (pending.caused_at is not None and actor.position <= pending.caused_at)
    ):
        actor.window = Window(actor.version, actor.position)
    return actor.window is not None and (
        pending.searched
        or actor.window.covers(actor.version, pending.caused_at)
        or (pending.caused_at is not None and actor.window.tells(pending.command_id, pending.caused_at))
    )


async def look_back(actor: AggregateActor[Any, Any, Any], pending: Pending) -> None:
    """Load the window, and search before it where `caused_at` asks for that; then the actor goes on."""
    store = actor.blueprint.manager.store
    window = actor.window or Window(actor.version, actor.position)
    try:
        if not window.covers(actor.version, None):
            await _load(store, actor.stream, window, actor.version)
        if pending.caused_at is not None and not window.covers(actor.version, pending.caused_at):
            pending.seen = await _search(store, actor.stream, window, pending.command_id, pending.caused_at)
    except WentBackError as error:
        actor.start_over(str(error))
    else:
        pending.searched = True
        actor.looked_back(window)


def is_repeat(actor: AggregateActor[Any, Any, Any], drain: Drain, pending: Pending) -> bool:
    """Whether the command came before; then it has been seen to."""
    assert actor.window is not None
    seen = actor.window.find(pending.command_id) or pending.seen
    if seen is None:
        return share_decision(drain, actor.stream, pending)
    manager = actor.blueprint.manager
    if manager.repeats >= manager.limits.mailbox:
        actor.fail(
            pending, MailboxFullError(actor.stream, manager.limits.mailbox, "repeated commands under way")
        )
    else:
        manager.repeats += 1
        manager.spawn(_answer(actor, pending, seen), partial(_cut_off, actor, pending))
    return True


def note(
    window: Window, command_id: str, digest: str | None, events: int, version: int, position: int
) -> None:
    """A command has been stored; `version` and `position` are those of its last event."""
    window.add(command_id, Seen(version - events + 1, version, digest), position)


def note_all(window: Window, drain: Drain) -> None:
    """The commands of a drain have been stored."""
    for answer in drain.answers:
        if answer.events:
            position = drain.position - (drain.version - answer.version)
            pending = answer.pending
            note(window, pending.command_id, pending.digest, len(answer.events), answer.version, position)


async def _answer(actor: AggregateActor[Any, Any, Any], pending: Pending, seen: Seen) -> None:
    """The first result, read back from the stream; the actor goes on meanwhile."""
    blueprint = actor.blueprint
    manager = blueprint.manager
    task = asyncio.current_task()
    assert task is not None
    deadline = manager.clock.call_later(pending.deadline - manager.clock.monotonic(), task.cancel)
    try:
        events = await _recall(manager.store, actor.stream, pending.command_id, seen)
        if seen.digest is not None and seen.digest != pending.digest:
            # Only now: of a command that the store no longer holds, the id is free.
            raise DuplicateCommandError(actor.stream, pending.command_id)
        decoded = tuple([decode_event(blueprint.decoders, event) for event in events])
    except asyncio.CancelledError:
        # Its deadline has passed, or the runtime is being closed and gives up.
        actor.fail(pending, OutcomeUnknownError(actor.stream, pending.command_id))
    except WentBackError as error:
        actor.window = None
        actor.fail(pending, error)
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
        actor.fail(pending, as_rehydrate_error(error))
    else:
        if not pending.is_answered:
            manager.counters.count(None)
        reply(pending, CommandResult(events[-1].version, events[-1].position, decoded))
    finally:
        deadline.cancel()
    manager.repeats -= 1


def _cut_off(actor: AggregateActor[Any, Any, Any], pending: Pending) -> None:
    actor.blueprint.manager.repeats -= 1
    actor.fail(pending, OutcomeUnknownError(actor.stream, pending.command_id))


async def _recall(store: Store, stream: str, command_id: str, seen: Seen) -> list[StoredEvent]:
    """The events that a command stored, all of them, also those before where a window was cut."""
    events = await _read(store, stream, seen.first - 1, seen.last)
    if command_id_of(events[-1]) != command_id:
        raise WentBackError(f"{stream} does not hold command {command_id} at version {seen.last} any more")
    while events[0].version > 1:
        start = events[0].version
        before = await _read(store, stream, max(0, start - 1 - _BACK), start - 1)
        mine = [event for event in before if command_id_of(event) == command_id]
        events = mine + events
        if len(mine) < len(before):
            break
    return events


async def _load(store: Store, stream: str, window: Window, version: int) -> None:
    """Extend a window back to the last 1,024 events."""
    start = max(0, version - WINDOW_EVENTS)
    if start == 0:
        window.extend_back(await _read(store, stream, 0, window.since), 0, 0)
    elif start < window.since:
        events = await _read(store, stream, start - 1, window.since)
        window.extend_back(events[1:], start, events[0].position)


async def _search(store: Store, stream: str, window: Window, command_id: str, caused_at: int) -> Seen | None:
    """The command in the events before the window, back to position `caused_at`, which cannot hold it.

    What is read leaves a trail, so that it is not read again for the next such command.
    """
    trail = window.trail = window.trail or Trail(window.since, window.since_position)
    for version in trail.find(command_id):
        (event,) = await _read(store, stream, version - 1, version)
        if command_id_of(event) == command_id:
            return seen_in(event)
    until, position = trail.since, trail.since_position
    has_room = True
    while until > 0 and position > caused_at:
        start = max(0, until - WINDOW_EVENTS)
        events = await _read(store, stream, start, until)
        if start > 0:
            # The first of them says where the others begin.
            start, position = events[0].version, events[0].position
        commands = commands_of(events[1:] if start > 0 else events)
        has_room = has_room and trail.extend_back(
            [(id, seen.last) for id, seen, _ in commands], start, position
        )
        for found, seen, _ in commands:
            if found == command_id:
                return seen
        until = start
        await asyncio.sleep(0)  # A store may answer at once, and there may be very many pages.
    return None


async def _read(store: Store, stream: str, after: int, through: int) -> list[StoredEvent]:
    """The events of versions `after` (exclusive) to `through`.

    Raises `WentBackError` where the store does not hold them all.
    """
    events: list[StoredEvent] = []
    while after < through:
        page = await store.read_stream(stream, after=after, limit=through - after)
        if not page.events:
            raise WentBackError(f"{stream} ends at version {after}, and was at version {through} before")
        events.extend(page.events)
        after = page.events[-1].version
    return events
