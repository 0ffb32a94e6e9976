"""What turns the events, commands and state of one aggregate into bytes, made once when the `App` is built."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rehydrate.codec.difference import difference
from rehydrate.codec.json import JsonCodec, JsonValueCodec
from rehydrate.codec.none import may_be_none
from rehydrate.codec.rejections import rejections_of
from rehydrate.codec.types import members_of, text
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.codec import Codec
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import ConfigurationError

_SELF: Final[object] = typing.Self


@dataclass(frozen=True, slots=True)
class AggregateCodecs:
    """How the events, commands and state of an aggregate become bytes and come back."""

    events: Codec
    commands: JsonCodec
    state: JsonValueCodec | None
    """`None` where the state cannot be stored, which is an error only for an aggregate with snapshots."""
    none_is_a_state: bool
    """Whether `evolve` may return None, which it has to say."""
    rejections: Mapping[str, type[Rejection]]
    """Its refusals by name."""

    @classmethod
    def of(cls, aggregate: Aggregate[Any, Any, Any]) -> AggregateCodecs:
        """The codecs of an aggregate. Raises `ConfigurationError` for types that would not come back."""
        return cls(
            events=_events(aggregate),
            commands=_commands(aggregate),
            state=_state(aggregate),
            none_is_a_state=may_be_none(aggregate.evolve, aggregate.initial),
            rejections=rejections_of(aggregate),
        )


def check_aggregates(aggregates: Sequence[Aggregate[Any, Any, Any]]) -> Mapping[str, AggregateCodecs]:
    """The codecs of each aggregate by its name. Raises `ConfigurationError` for what cannot work together."""
    codecs: dict[str, AggregateCodecs] = {}
    for aggregate in aggregates:
        if aggregate.name in codecs:
            raise ConfigurationError(
                f"two aggregates are named {aggregate.name!r}: a name is the key to its streams"
            )
        codecs[aggregate.name] = AggregateCodecs.of(aggregate)
    return codecs


def _events(aggregate: Aggregate[Any, Any, Any]) -> Codec:
    if aggregate.codec is None:
        try:
            return JsonCodec(aggregate.events)
        except ConfigurationError as error:
            raise _explained(f"aggregate {aggregate.name!r}", "events", error) from None
    if isinstance(aggregate.codec, type):
        raise ConfigurationError(
            f"aggregate {aggregate.name!r}: codec={aggregate.codec.__name__} is a class; give a value of it, such as "
            "codec=JsonCodec(Event)"
        )
    missing = [member for member in members_of(aggregate.events) if member not in aggregate.codec.names]
    if missing:
        raise ConfigurationError(
            f"aggregate {aggregate.name!r}: its codec has no name for {', '.join(map(text, missing))}; "
            "make it for all classes of events="
        )
    return aggregate.codec


def _commands(aggregate: Aggregate[Any, Any, Any]) -> JsonCodec:
    if aggregate.command_codec is not None:
        return _own_commands(aggregate, aggregate.command_codec)
    try:
        return JsonCodec(aggregate.commands)
    except ConfigurationError as error:
        raise _explained(f"aggregate {aggregate.name!r}", "commands", error) from None


def _own_commands(aggregate: Aggregate[Any, Any, Any], codec: object) -> JsonCodec:
    """The codec that the user gives: of the very classes that the aggregate takes, and JSON, for so they are stored."""
    owner = f"aggregate {aggregate.name!r}"
    if not isinstance(codec, JsonCodec):
        what = codec.__name__ if isinstance(codec, type) else repr(codec)
        raise ConfigurationError(
            f"{owner}: command_codec={what} must be a JsonCodec; write command_codec=JsonCodec(Command, aliases=...)"
        )
    declared = members_of(aggregate.commands)
    if missing := [member for member in declared if member not in codec.names]:
        raise ConfigurationError(
            f"{owner}: its command_codec has no name for {', '.join(map(text, missing))}; make it for all classes of "
            "commands="
        )
    if more := [kind for kind in codec.names if kind not in declared]:
        raise ConfigurationError(
            f"{owner}: its command_codec has {', '.join(map(text, more))}, and commands= does not; make it for the same "
            "classes"
        )
    return codec


def _state(aggregate: Aggregate[Any, Any, Any]) -> JsonValueCodec | None:
    return codec_of_state(
        f"aggregate {aggregate.name!r}",
        aggregate.initial,
        aggregate.evolve,
        is_needed=aggregate.snapshot is not None,
    )


def codec_of_state(
    owner: str, initial: object, evolve: Callable[..., object], *, is_needed: bool
) -> JsonValueCodec | None:
    """The codec of a state, or None where it cannot be stored and need not be.

    Raises `ConfigurationError` where it has to be and cannot.
    """
    try:
        codec = JsonValueCodec(_state_type(initial, evolve))
    except ConfigurationError as error:
        if not is_needed:
            return None
        raise _explained(owner, "state", error) from None
    if is_needed:
        _check_initial(owner, initial, codec)
    return codec


def _state_type(initial: object, evolve: Callable[..., object]) -> Any:
    """What `evolve` says that it returns; where it does not say, the class of `initial`."""
    of_initial = initial.__class__
    try:
        declared = typing.get_type_hints(evolve).get("return", Any)
    except (NameError, TypeError, SyntaxError, AttributeError):
        return of_initial
    return of_initial if declared in (Any, _SELF) or isinstance(declared, TypeVar) else declared


def _check_initial(owner: str, initial: object, codec: JsonValueCodec) -> None:
    try:
        back = codec.decode(codec.encode(initial))
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = difference(initial, back) or ""
    if reason:
        raise ConfigurationError(f"{owner}: initial={initial!r} does not come back from a snapshot: {reason}")


def _explained(owner: str, what: str, error: ConfigurationError) -> ConfigurationError:
    lines = str(error).splitlines()
    return ConfigurationError(
        f"{owner}: its {what} cannot be stored:\n" + "\n".join(f"  {line}" for line in lines)
    )
