"""Tests of a process manager, without event loop, fixture or mock.

    given(checkout, Happened(order, "o1", Placed("o1", 40))).then(Send(payment, "o1", Charge("o1", 40)))

Its instances take in what happened by the code that they do it with in a runtime. Beyond that, each of the three functions
runs twice, and has to agree and leave what it is given alone.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from rehydrate.codec.difference import difference
from rehydrate.codec.process import (
    Fire,
    Instance,
    InstanceCommand,
    Sent,
    Target,
    check_processes,
)
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.process import Cancel, ProcessManager, Rejected, Send
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.streams import plain_id
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.process import Process, encode_command, refusal, shown
from rehydrate.store.port import StoredEvent
from rehydrate.testing.checks import check_untouched, is_value
from rehydrate.testing.failures import diff
from rehydrate.testing.happened import Happened, Log

S = TypeVar("S")


class _Asked(NamedTuple):
    """A command that an instance has asked for."""

    by: str
    """The id of that instance."""
    sent: Sent
    send: Send


@dataclass
class _Past:
    """What is known after what has happened."""

    log: Log
    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])
    asked: list[_Asked] = field(default_factory=list[_Asked])
    """Without what was refused."""
    followed: list[Send | Cancel] = field(default_factory=list[Send | Cancel])
    """What `react` gave in the last step."""

    def next(self) -> _Past:
        """For another step."""
        return _Past(self.log.copy(), dict(self.instances), list(self.asked))


class GivenProcess(Generic[S]):
    """The instances of a process manager after what has happened, and what followed from it last."""

    def __init__(self, watched: _Watched, past: _Past) -> None:
        self._watched = watched
        self._past = past

    @classmethod
    def of(cls, process: ProcessManager[S, Any]) -> GivenProcess[S]:
        """Before anything has happened."""
        log = Log()
        return cls(_Watched(process, log), _Past(log))

    def when(self, *happened: Happened) -> GivenProcess[S]:
        """Take in what happens next."""
        __tracebackhide__ = True
        past = self._past.next()
        for one in happened:
            for event in past.log.append(self._name, one):
                self._watched.take_in(past, event)
        return GivenProcess(self._watched, past)

    def when_refused(self, send: Send, rejection: Rejection, /) -> GivenProcess[S]:
        """Tell the instance that has sent this command last that it was refused; a timer is due then."""
        __tracebackhide__ = True
        past = self._past.next()
        asked = next(
            (
                one
                for one in reversed(past.asked)
                if _is_same_command(one.send, send) and not self._watched.is_cancelled(past, one)
            ),
            None,
        )
        if asked is None:
            raise AssertionError(
                f"{self._name}: {_shown(send)} cannot be refused: no instance has sent it, or it was already"
            )
        past.asked.remove(asked)
        self._watched.refuse(past, asked, rejection)
        return GivenProcess(self._watched, past)

    def then(self, *reactions: Send | Cancel) -> GivenProcess[S]:
        """Fail unless just this followed from the last step, in this order; `then()` for nothing."""
        __tracebackhide__ = True
        if list(reactions) != self._past.followed:
            raise AssertionError(
                f"{self._name}: something else followed than expected\n{_diff(reactions, self._past.followed)}"
            )
        return self

    def then_state(self, id: str, state: S, /) -> GivenProcess[S]:
        """Fail unless this is the state of this instance; of one that nothing has reached, `initial`."""
        __tracebackhide__ = True
        actual = self._watched.instance(self._past, plain_id(id)).state
        if state != actual:
            raise AssertionError(
                f"{self._name}: the state of {id!r} is another than expected\n{diff([state], [actual])}"
            )
        return self

    def then_timers(self, id: str, /, *timers: Send) -> GivenProcess[S]:
        """Fail unless just these timers of this instance are pending, in the order in which it has asked for them."""
        __tracebackhide__ = True
        instance = self._watched.instance(self._past, plain_id(id))
        asked = [one for one in self._past.asked if one.by == id]
        pending = [one.send for one in asked if one.sent.number in instance.timers]
        if list(timers) != pending:
            raise AssertionError(
                f"{self._name}: other timers of {id!r} are pending than expected\n{_diff(timers, pending)}"
            )
        return self

    @property
    def _name(self) -> str:
        return self._watched.name


class _Watched:
    """The functions of a process manager, watched while they run."""

    def __init__(self, process: ProcessManager[Any, Any], log: Log) -> None:
        self.name = process.name
        self._log = log
        self._declared = process
        self._reactions: list[Send | Cancel] = []
        """What `react` gave last."""

        @functools.wraps(process.evolve)
        def evolve(state: Any, event: Any) -> Any:
            return self._evolve(state, event)

        @functools.wraps(process.react)
        def react(state: Any, event: Any) -> Any:
            return self._react(state, event)

        # That they are aggregates was checked when the process manager was declared.
        sources = cast("Sequence[Aggregate[Any, Any, Any]]", process.sources)
        codecs = {source.name: log.codecs_of(source) for source in sources}
        watched = dataclasses.replace(process, evolve=evolve, react=react)
        made = check_processes([watched], {source.name: source for source in sources}, codecs)[self.name]
        # Of an App it is known which aggregates it has; here it is those that something is sent to.
        self._targets: dict[str, Target] = dict(made.targets)
        self._process = Process(watched, dataclasses.replace(made, targets=self._targets))
        self._envelopes = Envelopes({name: its.events for name, its in codecs.items()})

    def instance(self, past: _Past, id: str) -> Instance:
        return past.instances.get(id, self._process.instances.initial)

    def is_cancelled(self, past: _Past, asked: _Asked) -> bool:
        """Whether this is a timer that was given up."""
        return asked.sent.due is not None and asked.sent.number not in self.instance(past, asked.by).timers

    def take_in(self, past: _Past, event: StoredEvent) -> None:
        """Have an event taken in by the instance that it belongs to, if there is one."""
        __tracebackhide__ = True
        if event.stream.partition("-")[0] not in self._envelopes.codecs:
            return
        envelope = self._envelopes.of(event)
        id = self._instance_of(envelope)
        if id is not None:
            self._tell(past, id, self._process.react_to(envelope))

    def refuse(self, past: _Past, asked: _Asked, rejection: Rejection) -> None:
        """Have a refusal told to the instance that has asked for it."""
        __tracebackhide__ = True
        sent = asked.sent
        if sent.number in self.instance(past, asked.by).timers:
            self._tell(
                past, asked.by, Fire(sent.number, sent.aggregate, sent.id, sent.type, bytes(sent.command))
            )
        sent_id = f"{self._process.declared.stream(asked.by)} {sent.number}"
        self._tell(past, asked.by, refusal(sent_id, sent, rejection, past.log.now))

    def _tell(self, past: _Past, id: str, command: InstanceCommand) -> None:
        __tracebackhide__ = True
        instance, self._reactions = self.instance(past, id), []
        records = list(self._process.instances.decide(instance, command))
        for record in records:
            instance = self._process.instances.evolve(instance, record)
        past.instances[id] = instance
        past.followed += self._reactions
        sends = [reaction for reaction in self._reactions if isinstance(reaction, Send)]
        asked = [record for record in records if isinstance(record, Sent)]
        past.asked += [_Asked(id, sent, send) for sent, send in zip(asked, sends, strict=True)]

    # ---- the three functions

    def _instance_of(self, envelope: EventEnvelope[Any]) -> str | None:
        __tracebackhide__ = True
        before = copy.deepcopy(envelope)
        id = self._correlated(envelope)
        check_untouched(self.name, "correlate", "envelope", before, envelope)
        again = self._correlated(before)
        if id != again:
            raise AssertionError(
                f"{self.name}: correlate gave another id when it was asked again for {envelope.event!r} of "
                f"{envelope.stream}: it may look at nothing but the envelope\n{diff([id], [again])}"
            )
        return id

    def _correlated(self, envelope: EventEnvelope[Any]) -> str | None:
        __tracebackhide__ = True
        try:
            return self._process.instance_of(envelope)
        except Exception as error:
            error.add_note(f"{self.name}: correlate failed at {envelope.event!r} of {envelope.stream}")
            raise

    def _evolve(self, state: Any, event: Any) -> Any:
        __tracebackhide__ = True
        before = copy.deepcopy(state)
        after = self._asked_for("evolve", state, event)
        check_untouched(self.name, "evolve", "state", before, state)
        again = self._asked_for("evolve", before, event)
        if is_value(after) and difference(after, again):
            raise AssertionError(
                f"{self.name}: evolve gave another state when it was asked again for {_told(event)}: it may look at "
                f"nothing but the state and the event\n{diff([after], [again])}"
            )
        return after

    def _react(self, state: Any, event: Any) -> Any:
        __tracebackhide__ = True
        before = copy.deepcopy(state)
        reactions = self._asked_for("react", state, event)
        if not isinstance(reactions, Iterable):
            return reactions  # The instance says what is wrong with it.
        followed = list(cast("Iterable[Send | Cancel]", reactions))
        check_untouched(self.name, "react", "state", before, state)
        for reaction in followed:
            if isinstance(reaction, Send):
                self._check_command(reaction)
        again = list(cast("Iterable[Send | Cancel]", self._asked_for("react", before, event)))
        if difference(followed, again):
            raise AssertionError(
                f"{self.name}: react gave something else when it was asked again for {_told(event)}: it may look at "
                f"nothing but the state and the event\n{_diff(followed, again)}"
            )
        self._reactions = followed
        return followed

    def _asked_for(self, function: str, state: Any, event: Any) -> Any:
        __tracebackhide__ = True
        try:
            return getattr(self._declared, function)(state, event)
        except Exception as error:
            error.add_note(f"{self.name}: {function} failed at {_told(event)}")
            raise

    def _check_command(self, send: Send) -> None:
        """Whether it is the same command that arrives; a class that its target does not take is refused by the instance."""
        __tracebackhide__ = True
        codecs = self._log.codecs_of(send.aggregate)
        self._targets.setdefault(send.aggregate.name, Target(send.aggregate, codecs))
        if send.command.__class__ in codecs.commands.names:
            try:
                encode_command(self.name, codecs.commands, send)
            except ValueError as error:
                raise AssertionError(str(error)) from error.__cause__


def _is_same_command(one: Send, other: Send) -> bool:
    return (one.aggregate, one.id, one.command) == (other.aggregate, other.id, other.command)


def _told(event: object) -> str:
    if isinstance(event, Rejected):
        return f"Rejected({_shown(event.send)}, {event.rejection!r})"
    return repr(event)


def _shown(reaction: object) -> str:
    return shown(reaction) if isinstance(reaction, Send) else repr(reaction)


def _diff(expected: Sequence[object], actual: Sequence[object]) -> str:
    return diff(expected, actual, show=_shown, none="nothing")
