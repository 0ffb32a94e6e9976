"""What an event does to the views of a projection: whose it changes, and what they are after it. No store, no loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rehydrate.codec.beginning import Beginning
from rehydrate.codec.none import says_none
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.projection import RESERVED, Projection
from rehydrate.domain.subscription import check_key
from rehydrate.errors import ConfigurationError, InvalidIdError
from rehydrate.store.port import LogFilter


class ChangedInPlaceError(ConfigurationError):
    """`evolve` changed what views begin with: of what is in memory nothing can be trusted, and nothing is saved."""


class Folding:
    """The functions of a projection, with what is refused of what they return."""

    def __init__(self, projection: Projection[Any, Any]) -> None:
        self.where = LogFilter(aggregates=frozenset(source.name for source in projection.sources))
        """The events that it gets."""
        self._projection = projection
        self._beginning = Beginning(f"projection {projection.name!r}", projection.initial, "evolve")
        self._may_remove = says_none(projection.evolve, projection.initial)

    def keys(self, envelope: EventEnvelope[Any]) -> tuple[str, ...]:
        """Whose views an event changes."""
        keys = self._projection.key(envelope)
        if keys is None:
            return ()
        if isinstance(keys, str):
            return (_checked(keys),)
        if not isinstance(keys, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"key gave {type(keys).__name__}; return a str, several of them, or None")
        return tuple(dict.fromkeys(_checked(key) for key in keys))

    def evolved(self, view: Any, envelope: EventEnvelope[Any]) -> Any:
        """The view after an event. None stands for no view, before it and after it.

        Raises `ChangedInPlaceError`, and from then on.
        """
        if view is None:
            self._check_begun()
            after = self._projection.evolve(self._beginning.new(), envelope)
            self._check_begun()
        else:
            after = self._projection.evolve(view, envelope)
        if after is None and not self._may_remove:
            raise TypeError(
                f"evolve returned None for {type(envelope.event).__name__}; return the next view, or declare "
                "`-> ... | None` where None is to remove it (of a lambda make a def)"
            )
        return after

    def _check_begun(self) -> None:
        if self._beginning.is_changed():
            raise ChangedInPlaceError(self._beginning.why)


def _checked(key: object) -> str:
    key = check_key(key, "key of a view")
    if key.startswith(RESERVED):
        raise InvalidIdError("key of a view", "it begins with U+0001, which is for Rehydrate's own")
    return key
