"""The pure step in the middle of a command's way: decide, encode, and evolve with what will be read back."""

from __future__ import annotations

from typing import Any

import msgspec

from rehydrate.codec.difference import difference
from rehydrate.domain.envelope import Metadata
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import ActorCrashedError, AppendTooLargeError, DuplicateCommandError
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.limits import DRAIN_EVENTS
from rehydrate.runtime.mailbox import Answer, Drain, Pending
from rehydrate.store.port import Capabilities, NewEvent

_encode_metadata = msgspec.json.Encoder().encode


def decide_into(
    drain: Drain, blueprint: Blueprint[Any, Any, Any], stream: str, capabilities: Capabilities, pending: Pending
) -> bool:
    """Decide one command on the state that the drain has reached; false if the drain has no room for its events.

    State and events of the drain change only if the whole command succeeds, `evolve` included: a bug in it costs this
    command, not a stream that never loads again. Each event is decoded again right after it was encoded, compared, and
    the state evolves with that: the live state is what a rehydrated one will be, and what would not come back as it was
    is never stored.
    """
    new_id = blueprint.manager.new_id
    names, encode, decoders, evolve = blueprint.names, blueprint.encode, blueprint.decoders, blueprint.evolve
    state = drain.state
    metadata = b""
    size = 0
    decided: list[Any] = []
    events: list[NewEvent] = []
    try:
        for event in blueprint.decide(state, pending.command):
            name = names.get(event.__class__)
            if name is None:
                return drain.answer(pending, _undeclared(stream, pending, event, names))
            data = encode(event)
            back = decoders[name](data)
            if back == event:
                pass
            elif why := difference(event, back):
                return drain.answer(pending, _changed(stream, pending, name, why))
            decided.append(back)
            state = evolve(state, back)
            if not metadata:
                metadata = _encode_metadata(metadata_of(pending))
            size += len(data) + len(metadata)
            events.append(NewEvent(new_id(), name, data, metadata))
    except Exception as error:
        if isinstance(error, Rejection) and len(decided) == len(events):
            # Without its traceback, which would keep the frames of this drain alive for as long as the caller keeps it.
            return drain.answer(pending, error.with_traceback(None))
        # Here too if it was `evolve` that refused: it cannot, for the event would not fold later either.
        crash = ActorCrashedError(stream, type(pending.command).__name__, describe(error))
        crash.__cause__ = error
        return drain.answer(pending, crash)
    if too_large := _too_large(stream, capabilities, len(events), size):
        return drain.answer(pending, too_large)
    if drain.events and (
        drain.size + size > capabilities.max_append_bytes
        or len(drain.events) + len(events) > min(DRAIN_EVENTS, capabilities.max_append_events)
    ):
        return False
    drain.state = state
    drain.version += len(events)
    drain.size += size
    drain.events += events
    drain.answers.append(Answer(pending, drain.version, tuple(decided)))
    return True


def share_decision(drain: Drain, stream: str, pending: Pending) -> bool:
    """Whether an earlier command of this drain has the same id; then its decision is this command's too."""
    if drain.by_id is None or (first := drain.by_id.get(pending.command_id)) is None:
        return False
    if first.pending.digest != pending.digest:
        if not first.events:
            # It was refused, or changed nothing: it leaves no trace, and the id is as good as new.
            return False
        return drain.answer(pending, DuplicateCommandError(stream, pending.command_id))
    drain.answers.append(msgspec.structs.replace(first, pending=pending))
    return True


def metadata_of(pending: Pending) -> Metadata:
    return Metadata(
        command_id=pending.command_id,
        correlation_id=pending.correlation_id,
        causation_id=pending.causation_id,
        fingerprint=pending.digest,
        user=pending.user,
    )


def describe(error: BaseException) -> str:
    """An error of the user's code in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _changed(stream: str, pending: Pending, name: str, why: str) -> ActorCrashedError:
    return ActorCrashedError(
        stream, type(pending.command).__name__, f"its {name} does not come back from its bytes as it was: {why}"
    )


def _undeclared(stream: str, pending: Pending, event: object, names: Any) -> ActorCrashedError:
    declared = ", ".join(kind.__name__ for kind in names)
    return ActorCrashedError(
        stream,
        type(pending.command).__name__,
        f"decide gave a {type(event).__name__}, which is not one of the aggregate's events ({declared})",
    )


def _too_large(stream: str, capabilities: Capabilities, count: int, size: int) -> AppendTooLargeError | None:
    if count > capabilities.max_append_events:
        return AppendTooLargeError(stream, "events", count, capabilities.max_append_events)
    if size > capabilities.max_append_bytes:
        return AppendTooLargeError(stream, "bytes", size, capabilities.max_append_bytes)
    return None
