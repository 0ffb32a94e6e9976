"""What a line asks for, and how its answer is written: the format that `docs/cli.md` shows to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rehydrate.app import App
from rehydrate.cli.json import as_json, encode_any
from rehydrate.cli.misfit import why_misfit
from rehydrate.cli.run.fields import unknown_field
from rehydrate.cli.run.lines import MAX_LINE, Line
from rehydrate.codec.aggregate import AggregateCodecs, check_aggregates
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import CommandResult, Scalar
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.streams import check_id
from rehydrate.errors import InvalidIdError, RehydrateError, UnknownAggregateError, UnknownCommandError


class MalformedLineError(RehydrateError):
    """The line is not a command; nothing was sent, and a retry says the same. Correct the line."""


class CommandLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A line of input. An unknown field is refused, for it may be a misspelt `command_id`."""

    aggregate: str
    id: str
    command: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    command_id: str | None = None
    metadata: dict[str, Scalar] | None = None


class Order(msgspec.Struct, frozen=True, gc=False):
    """A line that can be sent."""

    aggregate: Aggregate[Any, Any, Any]
    codecs: AggregateCodecs
    id: str
    command: Any
    command_id: str | None
    metadata: dict[str, Scalar] | None


class StoredPart(msgspec.Struct, frozen=True, gc=False):
    """An event in an answer."""

    type: str
    data: msgspec.Raw


class RejectionPart(msgspec.Struct, frozen=True, gc=False):
    type: str
    facts: msgspec.Raw
    message: str


class ErrorPart(msgspec.Struct, frozen=True, gc=False):
    type: str
    message: str


class Answer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A line of output: version, position and events; or a rejection; or an error."""

    line: int
    aggregate: str | None = None
    id: str | None = None
    version: int | None = None
    position: int | None = None
    events: list[StoredPart] | None = None
    rejection: RejectionPart | None = None
    error: ErrorPart | None = None


_FIELDS: Final = CommandLine.__struct_fields__
_decode_line: Final = msgspec.json.Decoder(CommandLine).decode
_encode_answer: Final = msgspec.json.Encoder().encode


class Orders:
    """Makes orders of lines, with what an App knows."""

    def __init__(self, app: App) -> None:
        self._aggregates = app.aggregates
        self._codecs: Mapping[str, AggregateCodecs] = check_aggregates(list(app.aggregates.values()))

    def read(self, line: Line) -> Order:
        """What the line asks for.

        Raises `MalformedLineError`, `UnknownAggregateError` or `UnknownCommandError`.
        """
        if line.too_long:
            raise MalformedLineError(f"the line has {line.too_long:,} bytes, and {MAX_LINE:,} are allowed")
        try:
            asked = _decode_line(line.text)
            check_id(asked.id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidIdError) as error:
            raise MalformedLineError(f"not a command: {_why(error)}") from error
        aggregate = self._aggregates.get(asked.aggregate)
        if aggregate is None:
            raise UnknownAggregateError(asked.aggregate, tuple(self._aggregates))
        codecs = self._codecs[asked.aggregate]
        return Order(aggregate, codecs, asked.id, _command(asked, codecs), asked.command_id, asked.metadata)


def _command(asked: CommandLine, codecs: AggregateCodecs) -> Any:
    known = codecs.commands
    # A line has the name of the class, and the shape of today, whatever revision of it a store would have.
    decoders = {
        **known.decoders,
        **{kind.__name__: known.decoders[name] for kind, name in known.names.items()},
    }
    if asked.command not in decoders:
        raise UnknownCommandError(asked.aggregate, asked.command, tuple(sorted(decoders)))
    data = bytes(asked.data)
    try:
        command = decoders[asked.command](data)
        given = msgspec.json.decode(data)
    except Exception as error:
        # Whatever the classes of the user raise: the line does not fit them.
        raise MalformedLineError(f"its data does not fit {asked.command}: {why_misfit(error)}") from error
    unknown = unknown_field(command, given)
    if unknown is not None:
        raise MalformedLineError(f"its data does not fit {asked.command}: {unknown}")
    return command


def _why(error: Exception) -> str:
    why = why_misfit(error)
    return f"{why} (there is: {', '.join(_FIELDS)})" if why.startswith("there is no field") else why


def is_blank(line: Line) -> bool:
    """Whether there is nothing to do and nothing to say about it."""
    return not line.too_long and not line.text.strip()


def accepted(number: int, order: Order, result: CommandResult[Any]) -> bytes:
    """The answer to a command that has its result."""
    names, encode = order.codecs.events.names, order.codecs.events.encode
    events = [StoredPart(names[type(event)], as_json(encode(event))) for event in result.events]
    return _line(Answer(number, order.aggregate.name, order.id, result.version, result.position, events))


def rejected(number: int, order: Order, no: Rejection) -> bytes:
    """The answer to a command that the domain refused."""
    part = RejectionPart(type(no).__name__, msgspec.Raw(encode_any(no.facts)), sentence_of(no))
    return _line(Answer(number, order.aggregate.name, order.id, rejection=part))


def failed(number: int, order: Order | None, error: Exception) -> bytes:
    """The answer to a line that could not be run; `order` is there if the line could be read."""
    part = ErrorPart(type(error).__name__, sentence_of(error))
    if order is None:
        return _line(Answer(number, error=part))
    return _line(Answer(number, order.aggregate.name, order.id, error=part))


def sentence_of(error: Exception) -> str:
    """What an error says, as text that can be encoded whatever the user's classes put into it."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001 - a `__str__` of the user's that fails must not end the run
        return type(error).__name__


def _line(answer: Answer) -> bytes:
    return _encode_answer(answer) + b"\n"
