"""An instance of a process manager as the aggregate that it is: what comes in, and what follows, in one append."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from rehydrate.codec.difference import difference, why_not_stored
from rehydrate.codec.json import JsonCodec
from rehydrate.codec.none import may_be_none
from rehydrate.codec.process import (
    Cancelled,
    Confirm,
    Due,
    Fire,
    Handled,
    Instance,
    InstanceCommand,
    InstanceEvent,
    PendingTimer,
    ProcessCodecs,
    React,
    Refuse,
    Refused,
    SendAgain,
    Sent,
    SentAgain,
    Unchanged,
)
from rehydrate.codec.upcast import REVISION_MARK
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope, microseconds_of
from rehydrate.domain.process import Cancel, ProcessManager, Rejected, Send, Undeliverable
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.streams import check_id
from rehydrate.domain.subscription import check_key
from rehydrate.errors import ConfigurationError, UndecodableCommandError, UnknownAggregateError
from rehydrate.runtime.decision import describe

_MICROSECOND: Final = timedelta(microseconds=1)
_read_facts = msgspec.json.Decoder(dict[str, Any]).decode
_write_facts = msgspec.json.Encoder(enc_hook=repr).encode


@dataclass(frozen=True, kw_only=True, eq=False)
class Instances(Aggregate[Instance, InstanceCommand, InstanceEvent]):
    """The instances of a process manager, as the aggregates that they are."""

    declared: ProcessManager[Any, Any]
    command: Callable[[str, str, bytes], object]
    """What reads a command that an instance has stored, for its aggregate, by its name, of its bytes."""


class Process:
    """A process manager, ready to run."""

    def __init__(self, declared: ProcessManager[Any, Any], codecs: ProcessCodecs) -> None:
        self.declared = declared
        self.name = declared.name
        self.codecs = codecs
        # What a wrapper says of itself is what the function in it says.
        self._none_is_a_state = may_be_none(inspect.unwrap(declared.evolve), declared.initial)
        self.instances = Instances(
            declared=declared,
            command=self.command,
            name=declared.name,
            initial=Instance(declared.initial),
            decide=self._decide,
            evolve=self._evolve,
            commands=InstanceCommand,
            events=InstanceEvent,
            snapshot=declared.snapshot,
            codec=codecs.instances.events,
        )

    def command(self, aggregate: str, type: str, data: bytes) -> object:
        """A command that was stored. Raises `UndecodableCommandError` where this code does not know it any more."""
        target = self.codecs.targets.get(aggregate)
        if target is None:
            raise UndecodableCommandError(
                aggregate, type, "there is no such aggregate in this App; add it to App(aggregates=[...])"
            )
        decoders = target.codecs.commands.decoders
        if type not in decoders:
            raise UndecodableCommandError(aggregate, type, _why_unknown(type, tuple(decoders)))
        try:
            return decoders[type](data)
        except Exception as error:
            raise UndecodableCommandError(
                aggregate,
                type,
                f"{describe(error)}; give a new field a default, or give the aggregate "
                f"command_codec=JsonCodec(..., upcasters={{{type.partition(REVISION_MARK)[0]!r}: [...]}})",
            ) from error

    # ---- what its instances are told

    def instance_of(self, envelope: EventEnvelope[Any]) -> str | None:
        """The id of the instance that an event of a source belongs to."""
        id = self.declared.correlate(envelope)
        return None if id is None else check_key(id, "id that correlate returned")

    def react_to(self, envelope: EventEnvelope[Any]) -> React:
        """That an event of a source has come."""
        codec = self.codecs.sources[envelope.aggregate].events
        return React(
            event_id=envelope.id,
            stream=envelope.stream,
            version=envelope.version,
            position=envelope.position,
            type=codec.names[type(envelope.event)],
            data=codec.encode(envelope.event),
            recorded_at=microseconds_of(envelope.recorded_at),
        )

    # ---- the two functions of the aggregate

    def _decide(self, instance: Instance, command: InstanceCommand) -> Iterable[InstanceEvent]:
        match command:
            case React():
                record = self._handled(command)
                yield record
                yield from self._reactions(instance, record, command.recorded_at)
            case Refuse():
                refused = Refused(
                    command.sent_id,
                    command.aggregate,
                    command.id,
                    command.type,
                    msgspec.Raw(command.data),
                    command.rejection,
                    msgspec.Raw(command.facts),
                )
                yield refused
                yield from self._reactions(instance, refused, command.now)
            case Confirm(sent_id=sent_id):
                yield Unchanged(sent_id)
            case SendAgain(sent_id=sent_id):
                yield SentAgain(sent_id)
            case Fire():
                # A timer that was cancelled meanwhile is no more.
                if (timer := instance.timers.get(command.number)) is not None:
                    data = msgspec.Raw(command.data)
                    yield Due(command.number, timer.due, command.aggregate, command.id, command.type, data)

    def _evolve(self, instance: Instance, record: InstanceEvent) -> Instance:
        match record:
            case Handled() | Refused():
                state = self._evolved(instance, self._event_in(record))
                return msgspec.structs.replace(instance, state=state)
            case Sent(number=number, due=due, name=name):
                timers = instance.timers
                if due is not None:
                    timers = {**timers, number: PendingTimer(due, name)}
                return msgspec.structs.replace(instance, sent=number, timers=timers)
            case Unchanged() | SentAgain():
                return instance
            case Cancelled(number=number) | Due(number=number):
                timers = {other: timer for other, timer in instance.timers.items() if other != number}
                return msgspec.structs.replace(instance, timers=timers)

    # ---- what comes in

    def _handled(self, command: React) -> Handled:
        source = command.stream.partition("-")[0]
        place = command.event_id, command.stream, command.version, command.position, command.type
        if isinstance(self.codecs.sources[source].events, JsonCodec):
            return Handled(*place, event=msgspec.Raw(command.data))
        return Handled(*place, packed=command.data)

    def _event_in(self, record: Handled | Refused) -> Any:
        """What the user's functions are given."""
        if isinstance(record, Refused):
            target = self.codecs.targets[record.aggregate]
            command = self.command(record.aggregate, record.type, bytes(record.command))
            send = Send(target.aggregate, record.id, command)
            return Rejected(send, _rejection(record, target.codecs.rejections))
        # Of any aggregate: what was a source once need not be one for ever.
        source = self.codecs.targets.get(name := record.stream.partition("-")[0])
        if source is None:
            raise UnknownAggregateError(name, tuple(self.codecs.targets))
        return source.codecs.events.decoders[record.type](record.packed or bytes(record.event))

    def _evolved(self, instance: Instance, event: Any) -> Any:
        state = self.declared.evolve(instance.state, event)
        if state is None and not self._none_is_a_state:
            raise TypeError(
                f"evolve returned None for {type(event).__name__}; return the next state, or declare `-> ... | None` where "
                "None is one"
            )
        return state

    # ---- what follows

    def _reactions(
        self, instance: Instance, record: Handled | Refused, recorded_at: int
    ) -> Iterator[InstanceEvent]:
        event = self._event_in(record)
        number, timers = instance.sent, dict(instance.timers)
        reactions = self.declared.react(self._evolved(instance, event), event)
        if not isinstance(reactions, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"react gave {type(reactions).__name__}; return a list of Send(...) and Cancel(...), or yield them"
            )
        for reaction in reactions:
            if isinstance(reaction, Cancel):
                yield from _cancelled(timers, reaction.name)
            elif isinstance(reaction, Send):  # pyright: ignore[reportUnnecessaryIsInstance]
                if reaction.name is not None:
                    yield from _cancelled(timers, reaction.name)
                number += 1
                sent = self._sent(reaction, number, recorded_at)
                if sent.due is not None:
                    timers[number] = PendingTimer(sent.due, sent.name)
                yield sent
            else:
                raise TypeError(
                    f"react gave {type(reaction).__name__}; give Send(...) and Cancel(...) values"
                )

    def _sent(self, send: Send, number: int, recorded_at: int) -> Sent:
        target = self.codecs.targets.get(send.aggregate.name)
        if target is None or target.aggregate is not send.aggregate:
            raise ConfigurationError(
                f"{send.aggregate.name!r} is not one of the App's aggregates; add it to App(aggregates=[...])"
            )
        name = target.codecs.commands.names.get(send.command.__class__)
        if name is None:
            raise ConfigurationError(
                f"aggregate {send.aggregate.name!r} takes no command {type(send.command).__name__}"
            )
        check_id(send.id)
        data = msgspec.Raw(encode_command(self.name, target.codecs.commands, send))
        return Sent(
            number, target.aggregate.name, send.id, name, data, _due(send, recorded_at), send.name or ""
        )


def _why_unknown(type: str, known: tuple[str, ...]) -> str:
    """Why there is no command of that name, and what to do."""
    name, _, revision = type.partition(REVISION_MARK)
    # Of a name that is declared every older revision is known.
    if revision and any(each.partition(REVISION_MARK)[0] == name for each in known):
        return f"it was written by newer code, as revision {revision} of {name}; deploy that code here, too"
    return (
        f"no command of that name is declared (declared: {', '.join(sorted(known))}); declare it, or give the aggregate "
        f"command_codec=JsonCodec(..., aliases={{{name!r}: ...}}) with its new class"
    )


def encode_command(process: str, codec: JsonCodec, send: Send) -> bytes:
    """The bytes of a command, from which it comes back as it is. Raises `ValueError` that says why it does not."""
    command: object = send.command
    kind = type(command)
    try:
        data = codec.encode(command)
        if kind in codec.exact and codec.exact[kind](command):
            return data
        why = difference(command, codec.decoders[codec.names[kind]](data))
    except Exception as error:
        why = why_not_stored(command, f"{type(error).__name__}: {error}")
        raise ValueError(f"{process}: the command of {shown(send)} cannot be stored: {why}") from error
    if why:
        raise ValueError(f"{process}: the command of {shown(send)} does not come back as it was: {why}")
    return data


def shown(send: Send) -> str:
    """As it is written; of an aggregate its name, for its `repr` would fill the page."""
    times = [
        f"{name}={value!r}" for name in ("after", "at", "name") if (value := getattr(send, name)) is not None
    ]
    return f"Send({', '.join([send.aggregate.name, repr(send.id), repr(send.command), *times])})"


def refusal(sent_id: str, asked: Sent | Due, no: Rejection, now: int) -> Refuse:
    """That what an instance asked for was refused."""
    return Refuse(
        sent_id=sent_id,
        aggregate=asked.aggregate,
        id=asked.id,
        type=asked.type,
        data=bytes(asked.command),
        rejection=type(no).__name__,
        facts=_write_facts(no.facts),
        now=now,
    )


def _cancelled(timers: dict[int, PendingTimer], name: str) -> Iterator[Cancelled]:
    for number in [number for number, timer in timers.items() if timer.name == name]:
        yield Cancelled(number, timers.pop(number).due)


def _due(send: Send, recorded_at: int) -> int | None:
    if send.at is not None:
        return microseconds_of(send.at)
    return None if send.after is None else recorded_at + send.after // _MICROSECOND


def _rejection(record: Refused, known: Mapping[str, type[Rejection]]) -> Rejection:
    """The refusal, as the class that it was where that is known here; else as one that reads like it."""
    classes: dict[str, type[Rejection]] = {Undeliverable.__name__: Undeliverable, **known}
    kind = classes.get(record.rejection)
    if kind is None:
        kind = type(record.rejection, (Rejection,), {"__module__": "elsewhere"})
    rejection: Rejection = kind.__new__(kind)
    rejection.facts = _read_facts(record.facts)
    return rejection
