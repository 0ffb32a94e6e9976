"""Tests of a projection, without event loop, fixture or mock.

    given(balances, Happened(account, "ada", Deposited(100))).then_view("ada", Balance(amount=100, changes=1))

It folds with the rules that a projector folds with, and each view goes through the codec and comes back, as in a store.
Beyond that, `key` and `evolve` each run twice, and have to agree and leave what they are given alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from rehydrate.codec.beginning import Beginning
from rehydrate.codec.difference import difference
from rehydrate.codec.projection import check_projections
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.projection import Projection
from rehydrate.domain.streams import plain_id
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.folding import Folding
from rehydrate.store.port import StoredEvent
from rehydrate.testing.checks import check_untouched, come_back
from rehydrate.testing.failures import diff, diff_lines
from rehydrate.testing.happened import Happened, Log

V = TypeVar("V")

_SHOWN: Final = 10
"""Keys that a failure names."""


class GivenViews(Generic[V]):
    """The views of a projection after what has happened."""

    def __init__(self, watched: _Watched, log: Log, views: Mapping[str, V]) -> None:
        self._watched = watched
        self._log = log
        self._views = views

    @classmethod
    def of(cls, projection: Projection[V, Any]) -> GivenViews[V]:
        """Before anything has happened."""
        log = Log()
        return cls(_Watched(projection, log), log, {})

    def when(self, *happened: Happened) -> GivenViews[V]:
        """Fold what happens next."""
        __tracebackhide__ = True
        log, views = self._log.copy(), dict(self._views)
        for one in happened:
            for event in log.append(self._name, one):
                self._watched.fold(views, event)
        return GivenViews(self._watched, log, views)

    def then_view(self, key: str, view: V, /) -> GivenViews[V]:
        """Fail unless this is the view of this key; also where there is none yet and a reader is given `initial`."""
        __tracebackhide__ = True
        key = plain_id(key, "key of a view")
        if key not in self._views:
            raise AssertionError(f"{self._name}: there is no view of {key!r}, {self._others()}")
        if view != self._views[key]:
            raise AssertionError(
                f"{self._name}: the view of {key!r} is another than expected\n{diff([view], [self._views[key]])}"
            )
        return self

    def then_no_view(self, key: str, /) -> GivenViews[V]:
        """Fail unless this key has no view: no event has changed it, or `evolve` has removed it."""
        __tracebackhide__ = True
        key = plain_id(key, "key of a view")
        if key in self._views:
            raise AssertionError(
                f"{self._name}: there is a view of {key!r}, and none was expected: {self._views[key]!r}"
            )
        return self

    def then_views(self, views: Mapping[str, V], /) -> GivenViews[V]:
        """Fail unless these are all views, by their keys; `then_views({})` for none."""
        __tracebackhide__ = True
        expected = {plain_id(key, "key of a view"): view for key, view in views.items()}
        if expected != self._views:
            others = [
                key
                for key in sorted(expected.keys() | self._views.keys())
                if key not in expected or key not in self._views or expected[key] != self._views[key]
            ]
            lines = diff_lines(_shown(expected, others), _shown(self._views, others), none="no views")
            raise AssertionError(
                f"{self._name}: there are other views than expected{self._unread()}\n{lines}"
            )
        return self

    @property
    def _name(self) -> str:
        return self._watched.name

    def _others(self) -> str:
        keys = sorted(self._views)
        named = ", ".join(map(repr, keys[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")
        return (f"only of {named}" if keys else "and none of any other key") + self._unread()

    def _unread(self) -> str:
        """Who reads a failure may look for events in it that no projector would read."""
        unread = sorted(self._log.aggregates - self._watched.sources)
        return f" (it does not read events of {', '.join(unread)}: no source of it)" if unread else ""


class _Watched:
    """The functions of a projection, watched while they run."""

    def __init__(self, projection: Projection[Any, Any], log: Log) -> None:
        # That they are aggregates was checked when the projection was declared.
        sources = cast("Sequence[Aggregate[Any, Any, Any]]", projection.sources)
        codecs = {source.name: log.codecs_of(source).events for source in sources}
        self.name = projection.name
        self.sources = codecs.keys()
        self._beginning = Beginning(projection.name, projection.initial)
        self._folding = Folding(projection)
        self._envelopes = Envelopes(codecs)
        self._codec = check_projections([projection], {source.name: source for source in sources})[
            projection.name
        ]

    def fold(self, views: dict[str, Any], event: StoredEvent) -> None:
        """Change the views that an event changes."""
        __tracebackhide__ = True
        if not self._folding.where.matches(event.stream, event.type):
            return
        envelope = self._envelopes.of(event)
        for key in self._keys(envelope):
            after = self._evolved(key, views.get(key), envelope)
            if after is None:
                views.pop(key, None)
            else:
                views[key] = self._stored(key, after)

    def _keys(self, envelope: EventEnvelope[Any]) -> tuple[str, ...]:
        __tracebackhide__ = True
        before = copy.deepcopy(envelope)
        keys = self._keys_once(envelope)
        check_untouched(self.name, "key", "envelope", before, envelope)
        again = self._keys_once(before)
        if set(keys) != set(again):
            raise AssertionError(
                f"{self.name}: key gave other keys when it was asked again for {_place(envelope)}: it may look at "
                f"nothing but the envelope\n{diff(keys, again)}"
            )
        return keys

    def _keys_once(self, envelope: EventEnvelope[Any]) -> tuple[str, ...]:
        __tracebackhide__ = True
        try:
            return self._folding.keys(envelope)
        except Exception as error:
            error.add_note(f"{self.name}: key failed at {_place(envelope)}")
            raise

    def _evolved(self, key: str, view: Any, envelope: EventEnvelope[Any]) -> Any:
        __tracebackhide__ = True
        held = self._beginning.copy() if view is None else view
        before = copy.deepcopy(held), copy.deepcopy(envelope)
        after = self._evolved_once(key, held, envelope)
        check_untouched(self.name, "evolve", "view", before[0], held)
        check_untouched(self.name, "evolve", "envelope", before[1], envelope)
        again = self._evolved_once(key, *before)
        if difference(after, again):
            raise AssertionError(
                f"{self.name}: evolve gave another view when it was asked again for {_place(envelope)}: it may look "
                f"at nothing but the view and the envelope\n{diff([after], [again])}"
            )
        return after

    def _evolved_once(self, key: str, view: Any, envelope: EventEnvelope[Any]) -> Any:
        __tracebackhide__ = True
        try:
            return self._folding.evolved(view, envelope)
        except Exception as error:
            error.add_note(f"{self.name}: evolve failed at {_place(envelope)}, for the view of {key!r}")
            raise

    def _stored(self, key: str, view: Any) -> Any:
        """A view as a later event, or a reader, finds it."""
        __tracebackhide__ = True
        what = f"{self.name}: the view {view!r} of {key!r}"
        return come_back(what, view, self._codec.encode, self._codec.decode)


def _place(envelope: EventEnvelope[Any]) -> str:
    return f"{envelope.event!r} of {envelope.stream}"


def _shown(views: Mapping[str, object], keys: Iterable[str]) -> list[str]:
    return [f"{key!r}: {views[key]!r}" for key in keys if key in views]
