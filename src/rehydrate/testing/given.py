"""Tests of a domain in one line, without event loop, fixture or mock.

    given(bank_account, Deposited(100)).when(Withdraw(30)).then(Withdrawn(30)).then_state(Account(balance=70))
    given(bank_account, Deposited(20)).when(Withdraw(30)).then_rejected(InsufficientFunds, balance=20)

It does what a runtime does: each event goes through the aggregate's codec and comes back before the state evolves with
it, so that an event which could not be stored fails here. Beyond that, `decide` and `evolve` each run twice, and have
to agree and leave the state that they are given alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import msgspec

from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.beginning import Beginning
from rehydrate.codec.difference import difference
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.process import ProcessManager
from rehydrate.domain.projection import Projection
from rehydrate.domain.rejection import Rejection
from rehydrate.testing.checks import check_untouched, is_value
from rehydrate.testing.failures import diff, diff_lines, listed, undeclared
from rehydrate.testing.given_process import GivenProcess
from rehydrate.testing.given_views import GivenViews
from rehydrate.testing.happened import Events, Happened

S = TypeVar("S")
V = TypeVar("V")
C = TypeVar("C")
E = TypeVar("E")


@overload
def given(aggregate: Aggregate[S, C, E], /, *events: E) -> Given[S, C, E]: ...
@overload
def given(projection: Projection[V, Any], /, *happened: Happened) -> GivenViews[V]: ...
@overload
def given(process: ProcessManager[S, Any], /, *happened: Happened) -> GivenProcess[S]: ...
def given(
    subject: Aggregate[Any, Any, Any] | Projection[Any, Any] | ProcessManager[Any, Any], /, *events: Any
) -> Any:
    """Start from what has happened: an aggregate from the events that it has stored, from none for a new one; a projection
    or a process manager from events with the places where they happened."""
    __tracebackhide__ = True
    if isinstance(subject, ProcessManager):
        return GivenProcess[Any].of(subject).when(*events)
    if isinstance(subject, Projection):
        return GivenViews[Any].of(subject).when(*events)
    if not isinstance(subject, Aggregate):  # pyright: ignore[reportUnnecessaryIsInstance]  # Tests are often not checked.
        raise TypeError(
            f"given begins with an Aggregate, a Projection or a ProcessManager, and was given {subject!r}: "
            "given(aggregate, *events).when(command)"
        )
    pure = _Pure(subject)
    state = Beginning(subject.name, subject.initial).copy()
    for event in events:
        state = pure.evolve(state, pure.events.stored(event, "given"))
    return Given(pure, state)


class Given(Generic[S, C, E]):
    """An aggregate in a state, ready for a command."""

    def __init__(self, pure: _Pure[S, C, E], state: S) -> None:
        self._pure = pure
        self._state = state

    def when(self, command: C, /) -> Outcome[S, C, E]:
        """Decide one command."""
        __tracebackhide__ = True
        return Outcome(self._pure, self._state, command)

    def then_state(self, state: S, /) -> Given[S, C, E]:
        """Fail unless the given events lead to this state."""
        __tracebackhide__ = True
        self._pure.expect_state("the given events", state, self._state)
        return self


class Outcome(Generic[S, C, E]):
    """What a command led to. `when` goes on from there."""

    def __init__(self, pure: _Pure[S, C, E], state: S, command: C) -> None:
        __tracebackhide__ = True
        self._pure = pure
        self._command = command
        decided = pure.decide(state, command)
        self._rejection = decided if isinstance(decided, Rejection) else None
        self._events: list[E] = [] if isinstance(decided, Rejection) else decided
        self._is_rejection_expected = False
        for event in self._events:
            state = pure.evolve(state, event)
        self._state = state

    def then(self, *events: E) -> Outcome[S, C, E]:
        """Fail unless the command gave just these events, in this order; `then()` for none."""
        __tracebackhide__ = True
        for event in events:
            self._pure.events.check_declared(event, "expected")
        if self._rejection is not None:
            raise AssertionError(
                f"{self._title('was rejected')}\n  {self._rejection!r}\nexpected were{listed(events)}"
            )
        if list(events) != self._events:
            raise AssertionError(
                f"{self._title('gave other events than expected')}\n{diff(events, self._events)}"
            )
        return self

    def then_rejected(self, rejection: type[Rejection], /, **facts: object) -> Outcome[S, C, E]:
        """Fail unless the command was refused with this `Rejection`, and the facts named here are as given."""
        __tracebackhide__ = True
        if self._rejection is None:
            title = self._title(f"was not rejected with {rejection.__name__}, and gave")
            raise AssertionError(title + listed(self._events))
        if not isinstance(self._rejection, rejection):
            title = self._title(f"was not rejected with {rejection.__name__}, but with")
            raise AssertionError(f"{title}\n  {self._rejection!r}")
        actual = {name: self._rejection.facts[name] for name in facts if name in self._rejection.facts}
        if actual != facts:
            title = self._title(f"was rejected with {rejection.__name__}, and other facts than expected")
            raise AssertionError(f"{title}\n{diff_lines(_named(facts), _named(actual))}")
        self._is_rejection_expected = True
        return self

    def then_state(self, state: S, /) -> Outcome[S, C, E]:
        """Fail unless this is the state afterwards; a rejection, which has to be expected first, leaves it as it was."""
        __tracebackhide__ = True
        self._fail_if_rejected()
        self._pure.expect_state(repr(self._command), state, self._state)
        return self

    def when(self, command: C, /) -> Outcome[S, C, E]:
        """Decide one more command; a rejection before it has to be expected by `then_rejected`."""
        __tracebackhide__ = True
        self._fail_if_rejected()
        return Outcome(self._pure, self._state, command)

    def _fail_if_rejected(self) -> None:
        __tracebackhide__ = True
        if self._rejection is not None and not self._is_rejection_expected:
            raise AssertionError(f"{self._title('was rejected')}\n  {self._rejection!r}")

    def _title(self, what: str) -> str:
        return f"{self._pure.name}: {self._command!r} {what}"


class _Pure(Generic[S, C, E]):
    """The functions of an aggregate, watched while they run."""

    def __init__(self, aggregate: Aggregate[S, C, E]) -> None:
        self.name = aggregate.name
        self._aggregate = aggregate
        self._codecs = AggregateCodecs.of(aggregate)
        self.events = Events(aggregate.name, self._codecs.events)

    def decide(self, state: S, command: C) -> list[E] | Rejection:
        """The events, as they come back from the store, or the refusal."""
        __tracebackhide__ = True
        if type(command) not in self._codecs.commands.names:
            raise AssertionError(undeclared(self.name, "command", command, self._codecs.commands.names))
        before = copy.deepcopy(state)
        decided = self._decide_once(state, command)
        check_untouched(self.name, "decide", "state", before, state)
        again = self._decide_once(before, command)
        if _told(decided) != _told(again):
            raise AssertionError(
                f"{self.name}: decide gave something else when it was asked again for {command!r}: "
                "time, ids and randomness must come in the command\n"
                f"{diff(_shown(decided), _shown(again))}"
            )
        return decided

    def _decide_once(self, state: S, command: C) -> list[E] | Rejection:
        __tracebackhide__ = True
        try:
            decided: Any = self._aggregate.decide(state, command)
            if not hasattr(decided, "__iter__"):
                raise AssertionError(
                    f"{self.name}: decide returned {decided!r} for {command!r}, which is not a sequence of events; "
                    "yield each event, or return a list, [] for none"
                )
            return [self.events.stored(event, "decided") for event in self._every(decided)]
        except Rejection as no:
            self._check_facts(no)
            return no

    def _every(self, decided: Iterable[Any]) -> Iterator[Any]:
        __tracebackhide__ = True
        events = iter(decided)
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                if end.value is None:
                    return
                raise AssertionError(
                    f"{self.name}: decide yields events and also returns {end.value!r}, which is lost; yield all of them"
                ) from None
            yield event

    def evolve(self, state: S, event: E) -> S:
        """The next state."""
        __tracebackhide__ = True
        before = copy.deepcopy(state)
        try:
            after = self._aggregate.evolve(state, event)
        except Rejection as no:
            raise AssertionError(
                f"{self.name}: evolve refused {event!r} with {no!r}; what has happened cannot be refused: do it in decide"
            ) from no
        check_untouched(self.name, "evolve", "state", before, state)
        if after is None and not self._codecs.none_is_a_state:
            raise AssertionError(
                f"{self.name}: evolve returned None for {event!r}; return the next state, or declare `-> ... | None` "
                "where None is one"
            )
        again = self._aggregate.evolve(before, event)
        if is_value(after) and difference(after, again):
            raise AssertionError(
                f"{self.name}: evolve gave another state when it was asked again for {event!r}: it may look at "
                f"nothing but the state and the event\n{diff([after], [again])}"
            )
        return after

    def expect_state(self, what: str, expected: S, actual: S) -> None:
        __tracebackhide__ = True
        if expected != actual:
            raise AssertionError(
                f"{self.name}: {what} led to another state than expected\n{diff([expected], [actual])}"
            )

    def _check_facts(self, rejection: Rejection) -> None:
        __tracebackhide__ = True
        for name, value in rejection.facts.items():
            try:
                msgspec.json.encode(value)
            except Exception as error:
                raise AssertionError(
                    f"{self.name}: {rejection!r} cannot cross a process: its fact {name!r} cannot be encoded: {error}"
                ) from error


def _told(decided: Sequence[object] | Rejection) -> object:
    if isinstance(decided, Rejection):
        return type(decided), decided.facts
    return decided


def _shown(decided: Sequence[object] | Rejection) -> Sequence[object]:
    return [decided] if isinstance(decided, Rejection) else decided


def _named(facts: dict[str, object]) -> list[str]:
    return [f"{name}={value!r}" for name, value in sorted(facts.items())]
