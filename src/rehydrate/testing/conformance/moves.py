"""What the laws of process managers run: money that moves between purses, with a bell for a move that takes long.

The money leaves its purse with the event that asks for the move. It goes to the other purse, or, if that is shut, comes
back. When a move begins the bell is hushed, which changes nothing, unless it has rung for that move before. Whatever is lost
or doubled on the way shows in the log.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeAlias, assert_never

import msgspec

from rehydrate.app import App
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.process import Cancel, ProcessManager, Rejected, Send
from rehydrate.domain.rejection import Rejection
from rehydrate.store.port import NewEvent, StoredEvent

PATIENCE: Final = timedelta(seconds=30)
"""After this the bell rings, unless the move has ended."""
BELL: Final = "bell"


@dataclass(frozen=True, slots=True)
class Put:
    amount: int


@dataclass(frozen=True, slots=True)
class Give:
    move: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class Take:
    move: str
    amount: int


@dataclass(frozen=True, slots=True)
class TakeBack:
    move: str
    amount: int


@dataclass(frozen=True, slots=True)
class Shut:
    pass


@dataclass(frozen=True, slots=True)
class Ring:
    move: str


@dataclass(frozen=True, slots=True)
class Hush:
    move: str


Command: TypeAlias = Put | Give | Take | TakeBack | Shut | Ring | Hush


@dataclass(frozen=True, slots=True)
class WasPut:
    amount: int


@dataclass(frozen=True, slots=True)
class Given:
    move: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class Taken:
    move: str
    amount: int


@dataclass(frozen=True, slots=True)
class TakenBack:
    move: str
    amount: int


@dataclass(frozen=True, slots=True)
class WasShut:
    pass


@dataclass(frozen=True, slots=True)
class Rung:
    move: str


@dataclass(frozen=True, slots=True)
class Hushed:
    move: str


Event: TypeAlias = WasPut | Given | Taken | TakenBack | WasShut | Rung | Hushed


class IsShut(Rejection):
    """Nothing is put into a purse that is shut."""


@dataclass(frozen=True, slots=True)
class Purse:
    holds: int = 0
    is_shut: bool = False
    rung: tuple[str, ...] = ()
    """The moves that the bell has rung for."""


def _decide(purse: Purse, command: Command) -> Iterable[Event]:
    match command:
        case Put(amount):
            yield WasPut(amount)
        case Give(move, to, amount):
            yield Given(move, to, amount)
        case Take(move, amount):
            if purse.is_shut:
                raise IsShut(move=move)
            yield Taken(move, amount)
        case TakeBack(move, amount):
            yield TakenBack(move, amount)
        case Shut():
            yield WasShut()
        case Ring(move):
            yield Rung(move)
        case Hush(move):
            if move in purse.rung:
                yield Hushed(move)
        case _:
            assert_never(command)


def _evolve(purse: Purse, event: Event) -> Purse:
    match event:
        case WasPut(amount) | Taken(_, amount) | TakenBack(_, amount):
            return replace(purse, holds=purse.holds + amount)
        case Given(_, _, amount):
            return replace(purse, holds=purse.holds - amount)
        case WasShut():
            return replace(purse, is_shut=True)
        case Rung(move):
            return replace(purse, rung=(*purse.rung, move))
        case Hushed():
            return purse
        case _:
            assert_never(event)


purse = Aggregate(
    name="purse", initial=Purse(), decide=_decide, evolve=_evolve, commands=Command, events=Event
)


def _of_move(envelope: EventEnvelope[Event]) -> str | None:
    match envelope.event:
        case Given(move) | Taken(move) | TakenBack(move):
            return move
        case _:
            return None


def _source(source: str, event: Event | Rejected) -> str:
    """The purse that the money comes from is the id of the move, up to its first dot."""
    return event.move.partition(".")[0] if isinstance(event, Given) else source


def _follow(source: str, event: Event | Rejected) -> Iterable[Send | Cancel]:
    match event:
        case Given(move, to, amount):
            yield Send(purse, to, Take(move, amount))
            yield Send(purse, BELL, Hush(move))
            yield Send(purse, BELL, Ring(move), after=PATIENCE, name=BELL)
        case Taken():
            yield Cancel(BELL)
        case Rejected(Send(command=Take(move, amount)), IsShut()):
            yield Send(purse, source, TakeBack(move, amount))
        case _:
            pass


moves = ProcessManager(
    name="moves", initial="", correlate=_of_move, evolve=_source, react=_follow, sources=[purse]
)
app = App(aggregates=[purse], processes=[moves])


def other_events(name: str, count: int) -> list[NewEvent]:
    """What somebody else does at a purse, as if by commands of his own."""
    return [
        NewEvent(f"{name}.{n}", "WasPut", b'{"amount":1}', b'{"command_id":"%s.%d"}' % (name.encode(), n))
        for n in range(count)
    ]


def check_moves(log: Sequence[StoredEvent]) -> Counter[str]:
    """Raise `AssertionError` for whatever is missing or comes twice in a log at rest; how often each type of event is in it."""
    ways: defaultdict[str, Counter[str]] = defaultdict(Counter)
    handled: Counter[tuple[str, str]] = Counter()
    timers: Counter[tuple[str, int]] = Counter()
    for event in log:
        facts = msgspec.json.decode(event.data)
        instance = event.stream.partition("-")[2]
        match event.type.removeprefix("rehydrate."):
            case "Given" | "Taken" | "TakenBack" | "Rung" | "Hushed" as type:
                ways[facts["move"]][type] += 1
            case "Handled":
                handled[event.stream, facts["event_id"]] += 1
            case "Sent" if facts.get("due") is not None:
                timers[event.stream, facts["number"]] += 1
            case "Due" | "Cancelled" as type:
                ways[instance][type] += 1
                timers[event.stream, facts["number"]] -= 1
            case "Rejected" | "Unchanged" as type:
                ways[instance][type] += 1
            case _:
                pass
    assert set(handled.values()) <= {1}, "an event was taken in more than once"
    assert set(timers.values()) <= {0}, "a timer is neither due nor cancelled, or is both"
    for move, steps in ways.items():
        way = {"Rejected": 1, "TakenBack": 1} if steps["Rejected"] else {"Taken": 1}
        bell = {"Due": 1, "Rung": 1} if steps["Due"] else {"Cancelled": 1}
        assert dict(steps) == {"Given": 1, "Unchanged": 1} | way | bell, (
            f"move {move} went another way: {dict(steps)}"
        )
    return Counter(event.type for event in log)
