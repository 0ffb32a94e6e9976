"""Every error of Rehydrate, as one tree.

Each docstring answers two questions: was anything stored, and may I retry? The facts are attributes; the
message is built from them and ends with what to do. A business refusal is not here: it is a
`rehydrate.Rejection`, outside of `RehydrateError`, because a no is not a failure.

    RehydrateError
    ├── ConfigurationError
    ├── InvalidIdError
    ├── DispatchError
    │   ├── UnknownAggregateError     UnknownCommandError
    │   ├── MailboxFullError          CommandTimeoutError       OutcomeUnknownError
    │   ├── ActorCrashedError         DuplicateCommandError     StreamQuarantinedError
    ├── StoreError
    │   ├── VersionConflictError      AppendTooLargeError
    │   ├── StoreUnavailableError     StoreClosedError          StoreSealedError
    │   └── CorruptStoreError
    ├── CodecError
    │   ├── UnknownEventError         UndecodableEventError     UndecodableCommandError
    └── ProjectionError
        ├── ProjectionBuildingError   ViewTimeoutError
"""

from __future__ import annotations

import re
from typing import Final

_REVISION: Final = re.compile("[1-9][0-9]{0,8}")
"""What stands behind the mark in the name of an event whose class has upcasters."""


class RehydrateError(Exception):
    """Whatever went wrong in Rehydrate itself, in its configuration, or in a store.

    It can be copied and pickled, so it also comes back from another process.
    """

    def __reduce__(self) -> tuple[object, ...]:
        attributes = self.__dict__.copy()
        if "__notes__" in attributes:
            attributes["__notes__"] = list(attributes["__notes__"])
        return _rebuild, (type(self), self.args, attributes)


def _rebuild(
    kind: type[RehydrateError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> RehydrateError:
    """With its text and facts, from which its own `__init__` may not be able to make it again."""
    # With its arguments, of which one that is an OSError, too, keeps its number.
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class ConfigurationError(RehydrateError):
    """What was declared or asked for cannot work; nothing was stored, and a retry says the same."""


class InvalidIdError(RehydrateError, ValueError):
    """An id of an aggregate, a command or a consumer is not 1 to 512 UTF-8 bytes without U+0000.

    Nothing was stored. A retry with the same id fails in the same way, on every store.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"this {kind} cannot be used: {reason}")
        self.kind = kind
        self.reason = reason


class DispatchError(RehydrateError):
    """A command could not be run to a result."""


class UnknownAggregateError(DispatchError):
    """The aggregate is not one of the App's; nothing was stored, a retry says the same."""

    def __init__(
        self, name: str, known: tuple[str, ...], *, is_another: bool = False, is_value: bool = False
    ) -> None:
        if is_value:
            listed = ", ".join(known) or "none"
            reason = f"{name} is no Aggregate: give the Aggregate value itself (this App has: {listed})"
        elif is_another:
            reason = (
                f"this is another Aggregate named {name!r} than the App's; was its module imported twice?"
            )
        else:
            listed = ", ".join(known) or "none"
            reason = f"no aggregate {name!r} in this App (it has: {listed}); add it to App(aggregates=[...])"
        super().__init__(reason)
        self.name = name
        self.known = known


class UnknownCommandError(DispatchError):
    """The aggregate does not take this command; nothing was stored, a retry says the same."""

    def __init__(
        self, aggregate: str, command: str, known: tuple[str, ...], *, is_class: bool = False
    ) -> None:
        if is_class:
            reason = f"{aggregate!r} was given the class {command} as a command: give a value, {command}(...)"
        else:
            reason = f"{aggregate!r} takes no command {command!r} (it takes: {', '.join(known) or 'none'})"
        super().__init__(reason)
        self.aggregate = aggregate
        self.command = command
        self.known = known


class MailboxFullError(DispatchError):
    """Too many commands wait already; this one was not accepted, nothing was stored. Retry later."""

    def __init__(self, stream: str, limit: int, what: str = "waiting commands") -> None:
        super().__init__(f"{stream}: the limit of {limit} {what} is reached; try again later")
        self.stream = stream
        self.limit = limit


class CommandTimeoutError(DispatchError):
    """The deadline passed before the command was decided: nothing was stored, and never will be.

    A retry is safe. Of a repeat this speaks of the repeat only: what became of the first try is still unknown.
    """

    def __init__(self, stream: str, command_id: str) -> None:
        super().__init__(
            f"{stream}: command {command_id} was not decided before its deadline; nothing was stored"
        )
        self.stream = stream
        self.command_id = command_id


class OutcomeUnknownError(DispatchError):
    """The deadline passed while the append was under way: the events may or may not be stored.

    Retry with `command_id=error.command_id`: if the command was stored, the retry is answered with its first
    result, and nothing is stored twice.
    """

    def __init__(self, stream: str, command_id: str) -> None:
        super().__init__(
            f"{stream}: it is not known whether command {command_id} was stored; "
            f"repeat it with command_id={command_id!r}"
        )
        self.stream = stream
        self.command_id = command_id


class ActorCrashedError(DispatchError):
    """`decide` or `evolve` raised, or command or event cannot be stored (`__cause__` has it).

    Nothing of this command was stored; the state and the other commands are untouched. A retry runs the same
    code again.
    """

    def __init__(self, stream: str, command: str, reason: str) -> None:
        super().__init__(f"{stream}: {command} failed: {reason}")
        self.stream = stream
        self.command = command
        self.reason = reason


class DuplicateCommandError(DispatchError):
    """The command id was used before with another payload.

    Nothing of this command was stored; the first one was. Use a new id for a new command.
    """

    def __init__(self, stream: str, command_id: str) -> None:
        super().__init__(
            f"{stream}: command id {command_id!r} was used before with another payload; use a new id for a new "
            "command, and repeat one with its fields as they were, or mark those that your program fills in, such as "
            "times, as ServerMade"
        )
        self.stream = stream
        self.command_id = command_id


class StreamQuarantinedError(DispatchError):
    """The stored events of this stream cannot be decoded or folded (`__cause__` has the reason).

    Nothing was stored. The stream is tried again from time to time; deploy code that can read it.
    """

    def __init__(self, stream: str, version: int, type: str, reason: str) -> None:
        super().__init__(f"{stream} is quarantined: event {version} ({type}) cannot be folded: {reason}")
        self.stream = stream
        self.version = version
        self.type = type
        self.reason = reason


class StoreError(RehydrateError):
    """A store could not do what was asked."""


class VersionConflictError(StoreError):
    """The stream is not at the version that the append expects; nothing was stored.

    Read the stream again and decide again. (Commands sent through `dispatch` do that by themselves.)
    With `is_another_history` it is at that version, and the event there is another one: the log went back.
    """

    def __init__(
        self, stream: str, expected: int | str, actual: int, *, is_another_history: bool = False
    ) -> None:
        reason = f"{stream} is at version {actual}, not at {expected}"
        if is_another_history:
            reason = f"{stream} has another event at version {actual} than it had: its log went back"
        super().__init__(f"{reason}; nothing was stored")
        self.stream = stream
        self.expected = expected
        self.actual = actual
        self.is_another_history = is_another_history


class AppendTooLargeError(StoreError):
    """The append has more events or bytes than the store takes; nothing was stored. Split it."""

    def __init__(self, stream: str, what: str, size: int, limit: int) -> None:
        super().__init__(
            f"{stream}: {size:,} {what} in one append, the store takes {limit:,}; nothing was stored"
        )
        self.stream = stream
        self.size = size
        self.limit = limit


class StoreUnavailableError(StoreError):
    """The store cannot be reached or cannot work now.

    `stored` says what is known of the append that met this error: `False` (nothing was stored) or `None`
    (unknown: send the same append again, with the same event ids). `retryable` is false where waiting does not
    help: the disk is full, the database is read-only.
    """

    def __init__(self, reason: str, *, stored: bool | None = False, retryable: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stored = stored
        self.retryable = retryable


class StoreClosedError(StoreError):
    """The store or runtime was closed, or belongs to the process that this one was forked from.

    Nothing was stored. Open it again.
    """

    def __init__(self, reason: str = "it is closed: open it again") -> None:
        super().__init__(reason)


class StoreSealedError(StoreError):
    """The store was sealed, after its events were moved to another one: it is read, and takes no more appends.

    Nothing was stored, and a retry says the same, in every process. Open the store that it was moved to.
    """

    def __init__(self, store: str) -> None:
        super().__init__(f"{store} is sealed and takes no more events: use the store that it was moved to")
        self.store = store


class CorruptStoreError(StoreError):
    """What is stored contradicts itself (a gap in the versions, a checkpoint of another log).

    Nothing was stored. A retry says the same; run `rehydrate verify`.
    """


class CodecError(RehydrateError):
    """Bytes and values do not fit together."""


class UnknownEventError(CodecError):
    """The stored type of an event is not one of the aggregate's; nothing was stored.

    Declare the event, or name its new class in the codec's `aliases`. A higher revision than those that are known was
    written by newer code: deploy that.
    """

    def __init__(self, type: str, known: tuple[str, ...]) -> None:
        if newest := _newest_known(type, known):
            name, _, revision = type.rpartition("@")
            reason = (
                f"no event of type {type!r} is declared: it was written by newer code, as revision {revision} of {name}, of "
                f"which this code knows {newest}; deploy that code here, too"
            )
        else:
            reason = (
                f"no event of type {type!r} is declared (declared: {', '.join(known) or 'none'}); "
                "declare it, or name its new class in the aliases of the codec"
            )
        super().__init__(reason)
        self.type = type
        self.known = known


def _newest_known(type: str, known: tuple[str, ...]) -> int:
    """The newest revision of an event that is known, if the stored type is one behind it; else 0."""
    name, _, revision = type.rpartition("@")
    # A codec of the user's own may write anything behind the mark.
    revisions = [each.partition("@")[2] or "1" for each in known if each.partition("@")[0] == name]
    newest = max([int(each) for each in revisions if _REVISION.fullmatch(each)], default=0)
    return newest if _REVISION.fullmatch(revision) and int(revision) > newest else 0


class UndecodableEventError(CodecError):
    """The stored bytes of an event do not fit its class, or an upcaster failed at them; nothing was stored.

    Add an upcaster, or mend it.
    """

    def __init__(
        self,
        type: str,
        reason: str,
        *,
        mend: str = "give a new field a default, or add an upcaster to the codec",
    ) -> None:
        super().__init__(f"an event of type {type!r} cannot be decoded: {reason}; {mend}")
        self.type = type
        self.reason = reason


class UndecodableCommandError(CodecError):
    """A command that a process manager stored in order to send it does not fit the code of today; nothing was stored.

    Name its new class in the aliases of its aggregate's `command_codec`, or add an upcaster there.
    """

    def __init__(self, aggregate: str, type: str, reason: str) -> None:
        super().__init__(f"a stored command {type!r} for aggregate {aggregate!r} cannot be decoded: {reason}")
        self.aggregate = aggregate
        self.type = type
        self.reason = reason


class ProjectionError(RehydrateError):
    """A view cannot be read now; nothing was stored, nothing is lost."""


class ProjectionBuildingError(ProjectionError):
    """The views of this revision are not complete yet. Nothing was stored; retry when it has caught up."""

    def __init__(
        self, projection: str, revision: int, position: int, head: int, standing_still: str = ""
    ) -> None:
        super().__init__(
            f"projection {projection!r} revision {revision} is being built: it is at position {position:,} of "
            f"{head:,}; {standing_still or 'try again later, and see that a process runs it'}"
        )
        self.projection = projection
        self.revision = revision
        self.position = position
        self.head = head


class ViewTimeoutError(ProjectionError):
    """The projection did not come to the position in time, or is stopped. Nothing was stored; a retry waits again."""

    def __init__(
        self, projection: str, at_least: int, position: int, seconds: float, standing_still: str = ""
    ) -> None:
        super().__init__(
            f"projection {projection!r} is at position {position:,} and did not come to {at_least:,}"
            + (
                f": {standing_still}"
                if standing_still
                else f" within {seconds:g} s; wait longer, or see that a process runs it"
            )
        )
        self.projection = projection
        self.at_least = at_least
        self.position = position
