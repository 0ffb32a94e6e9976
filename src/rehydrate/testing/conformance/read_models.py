"""What the laws of consumers run: an App whose views tell any event that is missed, doubled or out of order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rehydrate.app import App
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.projection import Projection
from rehydrate.store.port import StoredEvent


@dataclass(frozen=True, slots=True)
class Happen:
    n: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """What `material.event` writes."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class Chain:
    """The ids of events, in order, as one digest."""

    events: int = 0
    link: str = ""


def _decide(state: int, command: Happen) -> Iterable[Happened]:  # noqa: ARG001
    yield Happened(command.n)


def _count(state: int, event: Happened) -> int:  # noqa: ARG001
    return state + 1


def keys_of(stream: str) -> tuple[str, str]:
    """Each event changes the view of its stream, and one that joins all streams."""
    return stream, "all"


def _keys(envelope: EventEnvelope[Happened]) -> tuple[str, str]:
    return keys_of(envelope.stream)


def _next(chain: Chain, event_id: str) -> Chain:
    return Chain(
        chain.events + 1, hashlib.blake2b((chain.link + event_id).encode(), digest_size=8).hexdigest()
    )


def _add(chain: Chain, envelope: EventEnvelope[Happened]) -> Chain:
    return _next(chain, envelope.id)


def chains_of(log: Sequence[StoredEvent]) -> Mapping[str, Chain]:
    """What the views have to be after a whole log."""
    chains: dict[str, Chain] = {}
    for event in log:
        for key in keys_of(event.stream):
            chains[key] = _next(chains.get(key, Chain()), event.id)
    return chains


account = Aggregate(
    name="account", initial=0, decide=_decide, evolve=_count, commands=Happen, events=Happened
)


def chains(revision: int = 1) -> Projection[Chain, Happened]:
    return Projection(
        name="chains", initial=Chain(), key=_keys, evolve=_add, sources=[account], revision=revision
    )


projection = chains()
app = App(aggregates=[account], projections=[projection])
