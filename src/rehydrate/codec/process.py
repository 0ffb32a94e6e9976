"""What an instance of a process manager stores, and how that becomes bytes; made once when the `App` is built.

An instance is an aggregate of Rehydrate's own: its commands and events are here, its functions in `runtime.process`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from rehydrate.codec.aggregate import AggregateCodecs, codec_of_state
from rehydrate.codec.json import JsonCodec, JsonValueCodec
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.process import ProcessManager
from rehydrate.errors import ConfigurationError


class React(msgspec.Struct, frozen=True):
    """An event of a source has come."""

    event_id: str
    stream: str
    version: int
    position: int
    type: str
    data: bytes
    recorded_at: int


class Refuse(msgspec.Struct, frozen=True):
    """What was sent is refused."""

    sent_id: str
    """Of the event that asked for the sending."""
    aggregate: str
    id: str
    type: str
    data: bytes
    rejection: str
    facts: bytes
    now: int


class Confirm(msgspec.Struct, frozen=True):
    """What was sent is accepted, and changed nothing."""

    sent_id: str
    """Of the event that asked for the sending."""


class Fire(msgspec.Struct, frozen=True):
    """The time of a timer has come."""

    number: int
    aggregate: str
    id: str
    type: str
    data: bytes


class SendAgain(msgspec.Struct, frozen=True):
    """Another process sends what one may have sent that did not end in order."""

    sent_id: str


InstanceCommand: TypeAlias = React | Refuse | Confirm | Fire | SendAgain


class Handled(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of a source was taken in: what the state is folded from."""

    event_id: str
    stream: str
    version: int
    position: int
    type: str
    event: msgspec.Raw = msgspec.Raw(b"null")
    """As JSON, where it is stored as such."""
    packed: bytes = b""
    """Else its bytes."""


class Sent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command is to be sent: at once, or as a timer when it is due."""

    number: int
    """Counts what the instance sends."""
    aggregate: str
    id: str
    type: str
    command: msgspec.Raw
    due: int | None = None
    """Microseconds since 1970, UTC."""
    name: str = ""
    """Of the timer."""


class Cancelled(msgspec.Struct, frozen=True):
    """A pending timer was given up."""

    number: int
    due: int


class Due(msgspec.Struct, frozen=True):
    """The time of a timer has come, and its command is to be sent."""

    number: int
    due: int
    aggregate: str
    id: str
    type: str
    command: msgspec.Raw


class Refused(msgspec.Struct, frozen=True):
    """What was sent was refused, and the process manager has been told."""

    sent_id: str
    aggregate: str
    id: str
    type: str
    command: msgspec.Raw
    rejection: str
    facts: msgspec.Raw


class Unchanged(msgspec.Struct, frozen=True):
    """What was sent was accepted without events: its target has nothing to recognise it by."""

    sent_id: str


class SentAgain(msgspec.Struct, frozen=True):
    """What was asked for is sent by another process than before: an answer that the one before met counts no more."""

    sent_id: str


InstanceEvent: TypeAlias = Handled | Sent | Cancelled | Due | Refused | Unchanged | SentAgain

SENT: Final = "rehydrate.Sent"
CANCELLED: Final = "rehydrate.Cancelled"
DUE: Final = "rehydrate.Due"
REFUSED: Final = "rehydrate.Rejected"
UNCHANGED: Final = "rehydrate.Unchanged"

_NAMES: Final[dict[type, str]] = {
    Handled: "rehydrate.Handled",
    Sent: SENT,
    Cancelled: CANCELLED,
    Due: DUE,
    Refused: REFUSED,
    Unchanged: UNCHANGED,
    SentAgain: "rehydrate.SentAgain",
}


class InstanceCodec:
    """The events of instances as JSON under Rehydrate's own names."""

    def __init__(self) -> None:
        self.names: Mapping[type, str] = _NAMES
        self.encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
        self.decoders: Mapping[str, Callable[[bytes], Any]] = {
            name: msgspec.json.Decoder(kind).decode for kind, name in _NAMES.items()
        }


class PendingTimer(msgspec.Struct, frozen=True):
    """A timer that is neither due nor cancelled, as its instance knows it."""

    due: int
    name: str = ""


class Instance(msgspec.Struct, frozen=True):
    """The state of an instance: the user's, and what it has under way."""

    state: Any
    sent: int = 0
    """How many commands it has sent, or is to."""
    timers: Mapping[int, PendingTimer] = MappingProxyType({})
    """By number. What it begins with cannot be changed in place, so that only the user's state decides who shares one."""


class _Saved(msgspec.Struct, frozen=True):
    state: msgspec.Raw
    sent: int
    timers: dict[int, PendingTimer]


class InstanceStateCodec(JsonValueCodec):
    """States of instances in snapshots, around the codec of the user's own."""

    def __init__(self, of_state: JsonValueCodec) -> None:
        write = msgspec.json.Encoder().encode
        read = msgspec.json.Decoder(_Saved).decode

        def encode(instance: Instance) -> bytes:
            state = msgspec.Raw(of_state.encode(instance.state))
            return write(_Saved(state, instance.sent, dict(instance.timers)))

        def decode(data: bytes) -> Instance:
            saved = read(data)
            return Instance(of_state.decode(bytes(saved.state)), saved.sent, saved.timers)

        self.fingerprint = of_state.fingerprint
        self.encode = encode
        self.decode = decode


@dataclass(frozen=True, slots=True)
class Target:
    """An aggregate that commands are sent to."""

    aggregate: Aggregate[Any, Any, Any]
    codecs: AggregateCodecs


@dataclass(frozen=True, slots=True)
class ProcessCodecs:
    """How everything of a process manager becomes bytes and comes back."""

    instances: AggregateCodecs
    """Of its instances, as the aggregates that they are."""
    sources: Mapping[str, AggregateCodecs]
    """By the names of the sources."""
    targets: Mapping[str, Target]
    """Every aggregate of the App by its name."""


def check_processes(
    processes: Sequence[ProcessManager[Any, Any]],
    aggregates: Mapping[str, Aggregate[Any, Any, Any]],
    codecs: Mapping[str, AggregateCodecs],
) -> Mapping[str, ProcessCodecs]:
    """The codecs of each process manager by its name. Raises `ConfigurationError` for what cannot work together."""
    targets = {name: Target(aggregate, codecs[name]) for name, aggregate in aggregates.items()}
    made: dict[str, ProcessCodecs] = {}
    for process in processes:
        if process.name in made or process.name in aggregates:
            raise ConfigurationError(
                f"process manager {process.name!r}: another one, or an aggregate, has this name, which is the key to "
                "its streams; choose another"
            )
        for source in process.sources:
            if aggregates.get(source.name) is not source:
                raise ConfigurationError(
                    f"process manager {process.name!r}: its source {source.name!r} is not one of the App's; add it to "
                    "App(aggregates=[...])"
                )
        made[process.name] = ProcessCodecs(
            instances=AggregateCodecs(
                events=InstanceCodec(),
                commands=JsonCodec(InstanceCommand),
                state=_state(process),
                none_is_a_state=False,
                rejections={},
            ),
            sources={source.name: codecs[source.name] for source in process.sources},
            targets=targets,
        )
    return made


def _state(process: ProcessManager[Any, Any]) -> InstanceStateCodec | None:
    of_state = codec_of_state(
        f"process manager {process.name!r}",
        process.initial,
        process.evolve,
        is_needed=process.snapshot is not None,
    )
    return None if of_state is None else InstanceStateCodec(of_state)
