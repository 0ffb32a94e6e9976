"""The domain of the properties: a state that tells which events it was folded from, in which order, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from rehydrate import Aggregate, JsonCodec, Rejection, Snapshot
from rehydrate.store.port import StoredEvent


@dataclass(frozen=True, slots=True)
class Post:
    amount: int


@dataclass(frozen=True, slots=True)
class Draw:
    amount: int


@dataclass(frozen=True, slots=True)
class Batch:
    """An event for each amount, in one command."""

    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Is accepted, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Break:
    """A bug: in `decide`, or in `evolve` of the second event."""

    where: str


@dataclass(frozen=True, slots=True)
class Posted:
    amount: int


@dataclass(frozen=True, slots=True)
class Drawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Broken:
    """An event that `evolve` fails at."""


Command = Post | Draw | Batch | Nothing | Break
Event = Posted | Drawn | Broken


class Overdrawn(Rejection): ...


@dataclass(frozen=True, slots=True)
class Ledger:
    balance: int = 0
    version: int = 0
    """How many events came."""
    trail: int = 0
    """Another number for other events, or the same in another order."""


def decide(ledger: Ledger, command: Command) -> Iterable[Event]:
    match command:
        case Draw(amount) if amount > ledger.balance:
            raise Overdrawn(balance=ledger.balance, version=ledger.version)
        case Break("decide"):
            raise RuntimeError("a bug in decide")
        case Break():
            yield Posted(1)
            yield Broken()
        case _:
            yield from events_of(command)


def events_of(command: Command) -> tuple[Event, ...]:
    """What an accepted command stores."""
    match command:
        case Post(amount):
            return (Posted(amount),)
        case Draw(amount):
            return (Drawn(amount),)
        case Batch(amounts):
            return tuple(Posted(amount) for amount in amounts)
        case Nothing() | Break():
            return ()
        case _:
            assert_never(command)


def evolve(ledger: Ledger, event: Event) -> Ledger:
    match event:
        case Posted(amount):
            change = amount
        case Drawn(amount):
            change = -amount
        case Broken():
            raise RuntimeError("a bug in evolve")
        case _:
            assert_never(event)
    return Ledger(ledger.balance + change, ledger.version + 1, (ledger.trail * 31 + change) % 1_000_003)


def ledger_aggregate(
    *, snapshot: Snapshot | None = None, passivate_after: float = 5.0
) -> Aggregate[Ledger, Command, Event]:
    return Aggregate(
        name="ledger",
        initial=Ledger(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
        snapshot=snapshot,
        passivate_after=passivate_after,
    )


codec = JsonCodec(Event)


def decoded(events: Iterable[StoredEvent]) -> tuple[Event, ...]:
    return tuple(codec.decoders[event.type](event.data) for event in events)


def states_of(events: Sequence[Event]) -> list[Ledger]:
    """The state at each version, from 0 on."""
    states = [Ledger()]
    for event in events:
        states.append(evolve(states[-1], event))
    return states
