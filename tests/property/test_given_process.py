"""For the same events, `rehydrate.testing.given` has the states and commands that a process manager has in a runtime."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rehydrate import Aggregate, App, EventEnvelope, ProcessManager, Rejected, Rejection, Runtime, Send
from rehydrate.testing import Happened, given
from rehydrate.testing.clock import until
from rehydrate.testing.given_process import GivenProcess


@dataclass(frozen=True, slots=True)
class Note:
    number: int


@dataclass(frozen=True, slots=True)
class Noted:
    number: int


MOST: Final = 100
"""What the target takes."""


class TooMuch(Rejection): ...


@dataclass(frozen=True, slots=True)
class Seen:
    """The same in whichever order refusals come."""

    events: int = 0
    sum: int = 0
    refused: int = 0


def decide(_: int, note: Note) -> Iterable[Noted]:
    yield Noted(note.number)


def decide_modestly(_: int, note: Note) -> Iterable[Noted]:
    if note.number > MOST:
        raise TooMuch(number=note.number)
    yield Noted(note.number)


def add(total: int, noted: Noted) -> int:
    return total + noted.number


one = Aggregate(name="one", initial=0, decide=decide, evolve=add, commands=Note, events=Noted)
two, unread = replace(one, name="two"), replace(one, name="unread")
target = replace(one, name="target", decide=decide_modestly)
aggregates = {aggregate.name: aggregate for aggregate in (one, two, unread)}


def correlate(envelope: EventEnvelope[Noted]) -> str | None:
    return None if envelope.event.number == 0 else envelope.aggregate_id


def evolve(seen: Seen, event: Noted | Rejected) -> Seen:
    match event:
        case Noted(number):
            return replace(seen, events=seen.events + 1, sum=seen.sum + number)
        case Rejected(_, rejection):
            assert isinstance(rejection, TooMuch)
            much = rejection.facts["number"]
            assert isinstance(much, int)
            return replace(seen, refused=seen.refused + much)


def react(seen: Seen, event: Noted | Rejected) -> Iterable[Send]:
    match event:
        case Noted(number):
            for copy in range(number % 3):
                # What is too much is refused, and what was sent for it says of which event it is.
                yield Send(target, f"{copy}", Note(MOST * copy + seen.sum))
        case Rejected(send, _):
            yield Send(target, "refused", Note(send.command.number % 100))


follower = ProcessManager(
    name="follower", initial=Seen(), correlate=correlate, evolve=evolve, react=react, sources=[one, two]
)
app = App(aggregates=[one, two, unread, target], processes=[follower])

IDS = ("a", "b")
TARGETS = ("0", "1", "refused")
steps = st.lists(
    st.tuples(st.sampled_from(sorted(aggregates)), st.sampled_from(IDS), st.integers(0, 8)), max_size=10
)


async def outcome_of_a_run(
    script: list[tuple[str, str, int]],
) -> tuple[dict[str, Seen], dict[str, list[int]]]:
    async with app.open("memory://") as runtime:
        for name, id, number in script:
            await runtime.dispatch(aggregates[name], id, Note(number))
        await at_rest(runtime)
        states = {id: await runtime.state(follower, id) for id in IDS}
        arrived = {
            id: sorted([envelope.event.number async for envelope in runtime.events(target, id)])
            for id in TARGETS
        }
        return states, arrived


async def at_rest(runtime: Runtime) -> None:
    """Return when all consumers are at the end of the log, and nothing follows any more."""
    head = -1
    while (newest := (await runtime.store.head()).position) != head:
        head = newest
        await until(lambda: all(one.position >= head for one in runtime.statistics().consumers))  # noqa: B023


def outcome_of_the_kit(script: list[tuple[str, str, int]]) -> tuple[GivenProcess[Seen], dict[str, list[int]]]:
    """Everything that is sent arrives, or is refused and told of at the end."""
    arrived: dict[str, list[int]] = {id: [] for id in TARGETS}
    refused: list[Send] = []
    begun = given(follower)
    for name, id, number in script:
        begun = begun.when(Happened(aggregates[name], id, Noted(number)))
        for send in sends_of(begun):
            if send.command.number > MOST:
                refused.append(send)
            else:
                arrived[send.id].append(send.command.number)
    for send in refused:
        begun = begun.when_refused(send, TooMuch(number=send.command.number))
        for following in sends_of(begun):
            arrived[following.id].append(following.command.number)
    return begun, arrived


def sends_of(given: GivenProcess[Seen]) -> list[Send]:
    return [reaction for reaction in given._past.followed if isinstance(reaction, Send)]


@settings(max_examples=25, deadline=None)
@for_all(script=steps)
def test_states_and_commands_are_those_of_a_runtime(script: list[tuple[str, str, int]]) -> None:
    states, arrived = asyncio.run(outcome_of_a_run(script))
    begun, sent = outcome_of_the_kit(script)
    for id, state in states.items():
        begun.then_state(id, state)
    # In which order two instances send is open.
    assert {id: sorted(numbers) for id, numbers in sent.items()} == arrived
