"""What a user declares: a read model as a pure fold of events into views under keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from rehydrate.domain.aggregate import Aggregate, check_initial, check_is_aggregate, check_takes
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import STOP, Park, Skip, Stop, is_whole
from rehydrate.domain.subscription import check_consumer_name
from rehydrate.errors import ConfigurationError

V = TypeVar("V")
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)

RESERVED: Final = "\x01"
"""What the keys begin with under which a consumer keeps what is not a view."""


class Source(Protocol[E_co]):
    """An aggregate, for whoever only reads its events."""

    @property
    def name(self) -> str: ...

    @property
    def decide(self) -> Callable[[Any, Any], Iterable[E_co]]: ...


# Without slots: `Projection[View, Event](...)` has to be told its type parameters.
@dataclass(frozen=True, kw_only=True, eq=False)
class Projection(Generic[V, E]):
    """A read model: its events are folded into views, each under a key, and each event changes a view exactly once.

    `key(envelope)` says whose view an event changes: a key, several, or None for none. `evolve(view, envelope)` returns
    the next view, or None to remove it, which its annotation, if there is one, has to say. Both are pure: they see the
    envelope and nothing else.

    Raises `ConfigurationError` when a field cannot work; the rest is checked when the `App` is built.
    """

    name: str
    """The key to its views, and so data."""
    initial: V
    """The view of a key that no event has changed yet: a frozen value."""
    key: Callable[[EventEnvelope[E]], str | Iterable[str] | None]
    evolve: Callable[[V, EventEnvelope[E]], V | None]
    sources: Sequence[Source[E]]
    """The aggregates whose events it gets, in the order in which they were stored."""
    revision: int = 1
    """Raise it when the views come to be others: they are then built anew, beside those of the revision before."""
    on_error: Stop | Skip | Park = STOP
    """What becomes of an event that `evolve` fails at: a pure function fails again, so there is no `Retry`."""

    def __post_init__(self) -> None:
        check_consumer_name("projection", self.name)
        check_initial(f"projection {self.name!r}", self.initial, "views")
        if self.initial is None:
            raise self._refused(
                "initial is None, which stands for no view; give the value that a view begins with"
            )
        for role in ("key", "evolve"):
            function = getattr(self, role)
            if not callable(function) or inspect.iscoroutinefunction(function):
                raise self._refused(f"{role} must be a plain function")
        check_takes(f"projection {self.name!r}", "key", self.key, "envelope")
        check_takes(f"projection {self.name!r}", "evolve", self.evolve, "view", "envelope")
        if isinstance(self.sources, Aggregate) or not self.sources:
            raise self._refused("sources must be a list of at least one aggregate")
        for source in self.sources:
            check_is_aggregate(f"projection {self.name!r}", source)
        if not is_whole(self.revision, at_least=1):
            raise self._refused(f"revision={self.revision!r} must be at least 1")
        if not isinstance(self.on_error, Stop | Skip | Park):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._refused(f"on_error={self.on_error!r} must be Stop(), Skip() or Park()")

    @property
    def consumer(self) -> str:
        """The name of its checkpoint: each revision has its own."""
        return f"{self.name}@{self.revision}"

    def _refused(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"projection {self.name!r}: {reason}")


class HasViews(Protocol[V_co]):
    """A projection for whoever only reads a view.

    Covariant, so that the type of the view is inferred also where anything may stand: in `print(await view(...))`.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> int: ...

    @property
    def initial(self) -> V_co: ...
