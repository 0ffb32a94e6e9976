"""What a user declares: an aggregate as a value made of pure functions."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from rehydrate.domain.codec import Codec
from rehydrate.domain.policy import is_whole
from rehydrate.domain.quantities import check_seconds
from rehydrate.domain.streams import check_aggregate_name, stream_name
from rehydrate.errors import ConfigurationError

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """When to save the state of an aggregate, so that rehydration reads the tail of a long stream only."""

    every: int
    """Take one when that many events have come since the last one."""
    keep: int = 1
    """How many of the newest stay in the store."""
    schema: int = 1
    """Raise it when the meaning of the state changes: older snapshots are then ignored."""

    def __post_init__(self) -> None:
        for field in ("every", "keep", "schema"):
            if not is_whole(getattr(self, field), at_least=1):
                raise ConfigurationError(
                    f"Snapshot({field}={getattr(self, field)!r}): it must be at least 1, and an int"
                )


# Without slots: `Aggregate[State, Command, Event](...)` has to be told its type parameters.
@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate(Generic[S, C, E]):
    """A consistency boundary: its starting state and two pure functions.

    `decide(state, command)` returns or yields events, or raises a `Rejection`; `evolve(state, event)` returns the
    next state. Both see nothing else: time, ids and randomness come in the command.

    Raises `ConfigurationError` when a field cannot work; the rest is checked when the `App` is built.
    """

    name: str
    """Part of each stream's name (`"<name>-<id>"`), so without `-`, and data: it cannot be changed later."""
    initial: S
    """The state of an aggregate without events: a frozen value."""
    decide: Callable[[S, C], Iterable[E]]
    evolve: Callable[[S, E], S]
    commands: object
    """The class of its commands, or the union of their classes."""
    events: object
    """The class of its events, or the union of their classes."""
    snapshot: Snapshot | None = None
    passivate_after: float = 5.0
    """Seconds without a command until it is unloaded from memory; `math.inf` for never."""
    codec: Codec | None = None
    """How its events become bytes; by default JSON under the names of their classes."""
    command_codec: Codec | None = None
    """A `JsonCodec` of its commands that reads their older names and shapes: those that a process manager sends are
    stored."""
    rejections: object = None
    """The class of its refusals, or the union of their classes, so that one which was raised in another process is raised
    here as itself; by default those in the module of `decide`."""

    def __post_init__(self) -> None:
        check_aggregate_name(self.name)
        check_seconds(
            f"aggregate {self.name!r}: passivate_after", self.passivate_after, "; math.inf is never"
        )
        if self.snapshot is not None and not isinstance(self.snapshot, Snapshot):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"aggregate {self.name!r}: snapshot={self.snapshot!r} must be a Snapshot; write "
                "snapshot=Snapshot(every=100)"
            )
        check_initial(f"aggregate {self.name!r}", self.initial, "aggregates")
        for role in ("decide", "evolve"):
            function = getattr(self, role)
            if not callable(function):
                raise ConfigurationError(
                    f"aggregate {self.name!r}: {role} must be a plain function, and is a value of "
                    f"{type(function).__name__}; give the function itself, not its result"
                )
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigurationError(
                    f"aggregate {self.name!r}: {role} is async, and must be a plain function; what it would wait for "
                    "belongs into the command"
                )
        check_takes(f"aggregate {self.name!r}", "decide", self.decide, "state", "command")
        check_takes(f"aggregate {self.name!r}", "evolve", self.evolve, "state", "event")

    def stream(self, id: str) -> str:
        """The name of the stream that holds the events of this aggregate with this id."""
        return stream_name(self.name, id)


def check_is_aggregate(owner: str, given: object) -> None:
    """Raise `ConfigurationError` for what stands where an aggregate should, such as its name."""
    if not isinstance(given, Aggregate):
        raise ConfigurationError(f"{owner}: {given!r} is no Aggregate: give the Aggregate value itself")


def check_initial(owner: str, initial: object, what: str) -> None:
    """Raise `ConfigurationError` for what all aggregates, or all views, cannot begin with."""
    if isinstance(initial, type):
        raise ConfigurationError(
            f"{owner}: initial={initial.__name__} is a class; write initial={initial.__name__}()"
        )
    if isinstance(initial, (list, dict, set, bytearray)):
        raise ConfigurationError(
            f"{owner}: initial={initial!r} can be changed in place, and all {what} begin "
            "with it; use a frozen value, such as a frozen dataclass or a tuple"
        )
    if _is_mutable(initial):
        raise ConfigurationError(
            f"{owner}: initial is of type {type(initial).__name__}, which can be changed in place, and all "
            f"{what} begin with it; declare it with frozen=True"
        )


def check_takes(owner: str, role: str, function: Callable[..., object], *given: str) -> None:
    """Raise `ConfigurationError` for a function that cannot be called with what it will be given.

    One that does not say what it takes is called and seen.
    """
    try:
        # Of a decorated function what counts is the decorator's: it may give the one inside more than it gets.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError, NameError):
        return
    try:
        signature.bind(*given)
    except TypeError:
        empty = inspect.Signature.empty
        names = [one.replace(annotation=empty) for one in signature.parameters.values()]
        takes = signature.replace(parameters=names, return_annotation=empty)
        raise ConfigurationError(
            f"{owner}: {role} is called with ({', '.join(given)}), and takes {takes}"
        ) from None


def _is_mutable(initial: object) -> bool:
    """Whether this is a dataclass or a Struct whose fields can be set."""
    if dataclasses.is_dataclass(initial):
        parameters: Any = getattr(type(initial), "__dataclass_params__")  # noqa: B009 - it is no part of its type
        return not parameters.frozen
    return isinstance(initial, msgspec.Struct) and not initial.__struct_config__.frozen


class HasState(Protocol[S_co]):
    """An aggregate for whoever only asks for its state.

    Covariant, so that the type of the state is inferred also where anything may stand: in `print(await state(...))`.
    """

    @property
    def name(self) -> str: ...

    @property
    def initial(self) -> S_co: ...
