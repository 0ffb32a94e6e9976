"""An aggregate joined to everything that its actors share, so that an idle actor holds little but its state."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.beginning import Beginning
from rehydrate.codec.exact import IsExact
from rehydrate.codec.json import JsonCodec
from rehydrate.domain.aggregate import Aggregate
from rehydrate.errors import ConfigurationError, UnknownCommandError

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor
    from rehydrate.runtime.manager import AggregateManager

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

_log = logging.getLogger(__name__)


class Blueprint(Generic[S, C, E]):
    """One aggregate, ready to run: its functions, its codecs and its live actors by id."""

    __slots__ = (
        "actors",
        "aggregate",
        "beginning",
        "codecs",
        "command_types",
        "decide",
        "decoders",
        "encode",
        "evolve",
        "forms",
        "manager",
        "most_bytes",
        "most_events",
        "name",
        "new_id",
        "none_is_a_state",
        "snapshot",
    )

    def __init__(
        self, aggregate: Aggregate[S, C, E], codecs: AggregateCodecs, manager: AggregateManager
    ) -> None:
        self.aggregate = aggregate
        self.codecs = codecs
        self.manager = manager
        self.name = aggregate.name
        # The instances of a process manager are aggregates, whose `decide` calls its `react`.
        asked = "react" if hasattr(aggregate, "declared") else "decide"
        self.beginning = Beginning(repr(aggregate.name), aggregate.initial, f"{asked} or evolve")
        self.decide = aggregate.decide
        self.evolve = aggregate.evolve
        self.snapshot = aggregate.snapshot
        self.none_is_a_state = codecs.none_is_a_state
        self.encode = codecs.events.encode
        self.decoders = codecs.events.decoders
        exact: Mapping[type, IsExact] = codecs.events.exact if isinstance(codecs.events, JsonCodec) else {}
        self.forms: Mapping[type, tuple[str, IsExact | None]] = {
            kind: (name, exact.get(kind)) for kind, name in codecs.events.names.items()
        }
        """Of each class of events the name, and what may tell without reading back that one comes back as it is."""
        self.command_types = frozenset(codecs.commands.names)
        self.new_id = manager.new_id
        self.most_events = manager.capabilities.max_append_events
        self.most_bytes = manager.capabilities.max_append_bytes
        self.actors: dict[str, AggregateActor[Any, Any, Any]] = {}

    def check_begun(self, state: S | None = None) -> None:
        """Raise `ConfigurationError` once `decide` or `evolve` was seen to change in place what one began with.

        From then on nothing more is decided, on any actor: what one of them holds may be of a command that was refused.
        """
        if not self.beginning.is_changed(state):
            return
        if not self.is_stopped:
            _log.error("%s", self.beginning.why)
            self.decide = self._refuse_to_decide
        raise ConfigurationError(self.beginning.why)

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is decided any more."""
        return self.decide is not self.aggregate.decide

    def _refuse_to_decide(self, *_: object) -> NoReturn:
        raise ConfigurationError(self.beginning.why)

    def refuse(self, command: object) -> UnknownCommandError:
        """Why the aggregate does not take this command."""
        # A class in place of a value is named as itself: "takes no command 'type'" says nothing.
        name = command.__name__ if isinstance(command, type) else type(command).__name__
        return UnknownCommandError(
            self.name,
            name,
            tuple(sorted(self.codecs.commands.names.values())),
            is_class=isinstance(command, type),
        )


def by_command(blueprints: Iterable[Blueprint[Any, Any, Any]]) -> dict[type, Blueprint[Any, Any, Any]]:
    """What takes the commands of a class, where only one does."""
    found: dict[type, Blueprint[Any, Any, Any]] = {}
    shared: set[type] = set()
    for blueprint in blueprints:
        shared |= found.keys() & blueprint.command_types
        found.update(dict.fromkeys(blueprint.command_types, blueprint))
    return {kind: blueprint for kind, blueprint in found.items() if kind not in shared}
