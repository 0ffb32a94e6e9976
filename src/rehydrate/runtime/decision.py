"""The pure step in the middle of a command's way: decide, encode, and evolve with what will be read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from rehydrate.codec.difference import difference, why_not_stored
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import (
    ActorCrashedError,
    AppendTooLargeError,
    ConfigurationError,
    DuplicateCommandError,
)
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.limits import DRAIN_EVENTS
from rehydrate.runtime.mailbox import Drain, Pending
from rehydrate.runtime.plain_metadata import metadata_of
from rehydrate.store.port import NewEvent

Decision: TypeAlias = tuple[Any, list[NewEvent], tuple[Any, ...], int]
"""What one command comes to: the state after it, what to store, the same events as they will be read back, and how many
bytes of data and metadata they have."""


def decide(
    blueprint: Blueprint[Any, Any, Any], stream: str, state: Any, command: object, metadata: bytes
) -> Decision | Exception:
    """Decide one command on a state; or why nothing of it is to be stored.

    A command succeeds as a whole, `evolve` included: a bug in it costs this command, not a stream that never loads
    again. Each event is decoded again right after it was encoded, compared, and the state evolves with that: the live
    state is what a rehydrated one will be, and what would not come back as it was is never stored. Of simple events the
    codec can tell without that.
    """
    # Calls of what stands in a local variable are cheaper than of what stands in an attribute.
    users_decide, evolve = blueprint.decide, blueprint.evolve
    forms, encode, new_id = blueprint.forms, blueprint.encode, blueprint.new_id
    most_events, most_bytes = blueprint.most_events, blueprint.most_bytes
    size = 0
    decided: list[Any] = []
    events: list[NewEvent] = []
    given: Any = ()
    event: Any = None
    try:
        given = users_decide(state, command)
        for event in given:
            kind = event.__class__
            if kind not in forms:
                return _undeclared(stream, command, event, forms)
            name, is_exact = forms[kind]
            data = encode(event)
            if is_exact is not None and is_exact(event):
                back = event
            elif (back := blueprint.decoders[name](data)) != event and (why := difference(event, back)):
                return _changed(stream, command, name, why)
            decided.append(back)
            state = evolve(state, back)
            if state is None and not blueprint.none_is_a_state:
                return _no_state(stream, command, name)
            size += len(data) + len(metadata)
            events.append(NewEvent(new_id(), name, data, metadata))
            # Looked at here, so that a `decide` that never ends does.
            if len(events) > most_events:
                return AppendTooLargeError(stream, "events", len(events), most_events)
            if size > most_bytes:
                return AppendTooLargeError(stream, "bytes", size, most_bytes)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the answer to this command alone
        return _refusal(blueprint, stream, command, error, given, event, len(decided) == len(events))
    return state, events, tuple(decided), size


def decide_into(drain: Drain, blueprint: Blueprint[Any, Any, Any], stream: str, pending: Pending) -> bool:
    """Decide one command on the state that the drain has reached; false if the drain has no room for its events."""
    metadata = pending.metadata or metadata_of(pending.command_id)
    decision = decide(blueprint, stream, drain.state, pending.command, metadata)
    if not isinstance(decision, tuple):
        return drain.answer(pending, decision)
    state, events, decided, size = decision
    most_events = min(DRAIN_EVENTS, blueprint.most_events)
    if drain.events and (
        drain.size + size > blueprint.most_bytes or len(drain.events) + len(events) > most_events
    ):
        return False
    drain.take(pending, state, events, decided, size)
    return True


def _refusal(
    blueprint: Blueprint[Any, Any, Any],
    stream: str,
    command: object,
    error: BaseException,
    given: Any,
    event: Any,
    is_of_decide: bool,  # noqa: FBT001
) -> Exception:
    """What a command gets whose decision ended in an error."""
    if is_of_decide and isinstance(error, Rejection) and not isinstance(error, StopIteration):
        # Without its traceback, which would keep the frames of this drain alive for as long as the caller keeps it.
        return error.with_traceback(None)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        # The program is to end, and does, once this actor is in order.
        blueprint.manager.loop.call_soon(_raise, error)
    if blueprint.is_stopped:
        return ConfigurationError(str(error))
    # A rejection here was raised by `evolve`: it cannot refuse, for the event would not fold later either.
    reason = describe(error)
    if isinstance(error, TypeError) and is_of_decide and not hasattr(given, "__iter__"):
        reason = f"decide gave {type(given).__name__}; return a list of events, or yield them"
    elif is_of_decide and not _can_be_stored(blueprint, event):
        reason = f"its {type(event).__name__} cannot be stored: {why_not_stored(event, reason)}"
    crash = ActorCrashedError(stream, type(command).__name__, reason)
    crash.__cause__ = error
    return crash


def _can_be_stored(blueprint: Blueprint[Any, Any, Any], event: Any) -> bool:
    """Whether the last event that was decided, if there is one, goes through the codec: then the error is of `decide`."""
    if type(event) not in blueprint.forms:
        return True
    name, is_exact = blueprint.forms[type(event)]
    try:
        blueprint.decoders[name](blueprint.encode(event))
        if is_exact is not None:
            is_exact(event)
    except Exception:  # noqa: BLE001 - whatever a codec raises
        return False
    return True


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


def _no_state(stream: str, command: object, name: str) -> ActorCrashedError:
    reason = f"evolve returned None for {name}; return the next state, or declare `-> ... | None` where None is one"
    return ActorCrashedError(stream, type(command).__name__, reason)


def _changed(stream: str, command: object, name: str, why: str) -> ActorCrashedError:
    return ActorCrashedError(
        stream,
        type(command).__name__,
        f"its {name} does not come back from its bytes as it was: {why}",
    )


def _undeclared(
    stream: str, command: object, event: object, declared_kinds: Iterable[type]
) -> ActorCrashedError:
    declared = ", ".join(kind.__name__ for kind in declared_kinds)
    return ActorCrashedError(
        stream,
        type(command).__name__,
        f"decide gave {type(event).__name__}, which is not one of the aggregate's events ({declared})",
    )
