"""Which stored events a subscription is not meant to get; told when the `App` is built, or it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.json import JsonCodec
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.codec import Codec
from rehydrate.domain.streams import split_stream_name
from rehydrate.domain.subscription import Subscription
from rehydrate.errors import ConfigurationError


def check_subscription(
    subscription: Subscription,
    aggregates: Mapping[str, Aggregate[Any, Any, Any]],
    codecs: Mapping[str, AggregateCodecs],
    *,
    kind: str = "subscription",
) -> None:
    """Raise `ConfigurationError` for an aggregate that the App does not have, and whatever no event can be of."""
    for aggregate in subscription.aggregates:
        if aggregates.get(aggregate.name) is not aggregate:
            raise ConfigurationError(
                f"{kind} {subscription.name!r}: {aggregate.name!r} is not one of the App's aggregates; add it to "
                "App(aggregates=[...])"
            )
    unwanted_of(subscription, {name: its.events for name, its in codecs.items()}, kind=kind)


def unwanted_of(
    subscription: Subscription, codecs: Mapping[str, Codec], *, kind: str = "subscription"
) -> frozenset[tuple[str, str]]:
    """The stored types that nobody asks for, each with its aggregate. `codecs` are those of the App's events.

    Only types that are known here are among them: what newer code has written must never be passed over by older code,
    behind which newer code would go on. Of an aggregate whose codec cannot tell all names there are none.

    Raises `ConfigurationError` for a stream or a class that no event can be of.
    """
    sources = _sources_of(subscription, codecs, kind)
    if not subscription.types:
        return frozenset()
    known = {name: codec.stored_names for name in sources if isinstance(codec := codecs[name], JsonCodec)}
    for asked in subscription.types:
        declared = [cls for names in known.values() for cls in names]
        if len(known) == len(sources) and not any(issubclass(cls, asked) for cls in declared):
            raise ConfigurationError(
                f"{kind} {subscription.name!r}: {asked.__name__} is no event of {', '.join(sources) or 'this App'}"
            )
    wanted = tuple(subscription.types)
    return frozenset(
        (aggregate, name)
        for aggregate, names in known.items()
        for cls, its in names.items()
        if not issubclass(cls, wanted)
        for name in its
    )


def _sources_of(subscription: Subscription, codecs: Mapping[str, Codec], kind: str) -> Sequence[str]:
    """The aggregates whose events it may get."""
    asked = [aggregate.name for aggregate in subscription.aggregates] or list(codecs)
    if not subscription.streams:
        return asked
    sources: dict[str, None] = {}
    for stream in subscription.streams:
        name, _ = split_stream_name(stream)
        if name not in asked:
            raise ConfigurationError(
                f"{kind} {subscription.name!r}: no event of stream {stream!r} would ever come, because {name!r} is none of "
                f"its aggregates ({', '.join(asked) or 'none'})"
            )
        sources[name] = None
    return list(sources)
