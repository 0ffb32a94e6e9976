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
    drain: Drain,
    blueprint: Blueprint[Any, Any, Any],
    stream: str,
    capabilities: Capabilities,
    pending: Pending,
) -> bool:
    """Decide one command on the state that the drain has reached; false if the drain has no room for its events.

    State and events of the drain change only if the whole command succeeds, `evolve` included: a bug in it costs this
    command, not a stream that never loads again. Each event is decoded again right after it was encoded, compared, and
    the state evolves with that: the live state is what a rehydrated one will be, and what would not come back as it was
    is never stored.
    """
    new_id = blueprint.manager.new_id
    names, encode, decoders, evolve = blueprint.names, blueprint.encode, blueprint.decoders, blueprint.evolve
    most_events, most_bytes = capabilities.max_append_events, capabilities.max_append_bytes
    state = drain.state
    metadata = b""
    size = 0
    decided: list[Any] = []
    events: list[NewEvent] = []
    given: Any = ()
    try:
        given = blueprint.decide(state, pending.command)
        for event in given:
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
            if state is None and not blueprint.none_is_a_state:
                return drain.answer(pending, _no_state(stream, pending, name))
            if not metadata:
                metadata = pending.metadata or _encode_metadata(Metadata(command_id=pending.command_id))
            size += len(data) + len(metadata)
            events.append(NewEvent(new_id(), name, data, metadata))
            # Looked at here, so that a `decide` that never ends does.
            if len(events) > most_events:
                return drain.answer(pending, AppendTooLargeError(stream, "events", len(events), most_events))
            if size > most_bytes:
                return drain.answer(pending, AppendTooLargeError(stream, "bytes", size, most_bytes))
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the answer to this command alone
        return drain.answer(
            pending, _refusal(blueprint, stream, pending, error, given, len(decided) == len(events))
        )
    if drain.events and (
        drain.size + size > most_bytes or len(drain.events) + len(events) > min(DRAIN_EVENTS, most_events)
    ):
        return False
    drain.state = state
    drain.version += len(events)
    drain.size += size
    drain.events += events
    drain.answers.append(Answer(pending, drain.version, tuple(decided)))
    return True


def _refusal(
    blueprint: Blueprint[Any, Any, Any],
    stream: str,
    pending: Pending,
    error: BaseException,
    given: Any,
    is_of_decide: bool,  # noqa: FBT001
) -> Exception:
    """What a command gets whose decision ended in an error."""
    if is_of_decide and isinstance(error, Rejection) and not isinstance(error, StopIteration):
        # Without its traceback, which would keep the frames of this drain alive for as long as the caller keeps it.
        return error.with_traceback(None)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        # The program is to end, and does, once this actor is in order.
        blueprint.manager.loop.call_soon(_raise, error)
    # A rejection here was raised by `evolve`: it cannot refuse, for the event would not fold later either.
    reason = describe(error)
    if isinstance(error, TypeError) and is_of_decide and not hasattr(given, "__iter__"):
        reason = f"decide gave {type(given).__name__}; return a list of events, or yield them"
    crash = ActorCrashedError(stream, type(pending.command).__name__, reason)
    crash.__cause__ = error
    return crash


def _raise(error: BaseException) -> None:
    raise error


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


def describe(error: BaseException) -> str:
    """An error of the user's code in one line, whatever its own text does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is the user's class
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _no_state(stream: str, pending: Pending, name: str) -> ActorCrashedError:
    reason = f"evolve returned None for {name}; return the next state"
    return ActorCrashedError(stream, type(pending.command).__name__, reason)


def _changed(stream: str, pending: Pending, name: str, why: str) -> ActorCrashedError:
    return ActorCrashedError(
        stream,
        type(pending.command).__name__,
        f"its {name} does not come back from its bytes as it was: {why}",
    )


def _undeclared(stream: str, pending: Pending, event: object, names: Any) -> ActorCrashedError:
    declared = ", ".join(kind.__name__ for kind in names)
    return ActorCrashedError(
        stream,
        type(pending.command).__name__,
        f"decide gave a {type(event).__name__}, which is not one of the aggregate's events ({declared})",
    )
