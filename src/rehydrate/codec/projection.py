"""What turns the views of a projection into bytes, made once when the `App` is built."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from rehydrate.codec.difference import difference
from rehydrate.codec.json import JsonValueCodec
from rehydrate.codec.types import members_of
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.projection import Projection
from rehydrate.errors import ConfigurationError


def check_projections(
    projections: Sequence[Projection[Any, Any]], aggregates: Mapping[str, Aggregate[Any, Any, Any]]
) -> Mapping[str, JsonValueCodec]:
    """The codec of the views of each projection, by its name. Raises `ConfigurationError` for what cannot work."""
    codecs: dict[str, JsonValueCodec] = {}
    for projection in projections:
        if projection.name in codecs:
            raise ConfigurationError(
                f"two projections are named {projection.name!r}: a name is the key to its views"
            )
        for source in projection.sources:
            if aggregates.get(source.name) is not source:
                raise ConfigurationError(
                    f"projection {projection.name!r}: its source {source.name!r} is not one of the App's; add it to "
                    "App(aggregates=[...])"
                )
        codecs[projection.name] = _views(projection)
    return codecs


def _views(projection: Projection[Any, Any]) -> JsonValueCodec:
    try:
        codec = JsonValueCodec(_view_type(projection))
    except ConfigurationError as error:
        lines = "\n".join(f"  {line}" for line in str(error).splitlines())
        raise ConfigurationError(
            f"projection {projection.name!r}: its views cannot be stored:\n{lines}"
        ) from None
    try:
        why = difference(projection.initial, codec.decode(codec.encode(projection.initial)))
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
        why = f"{type(error).__name__}: {error}"
    if why:
        raise ConfigurationError(
            f"projection {projection.name!r}: initial={projection.initial!r} does not come back from the store: {why}"
        )
    return codec


def _view_type(projection: Projection[Any, Any]) -> Any:
    """What `evolve` says that it returns, without the None that removes a view; or the class of `initial`."""
    of_initial: Any = projection.initial.__class__
    try:
        declared: Any = typing.get_type_hints(projection.evolve).get("return", Any)
    except (NameError, TypeError, SyntaxError, AttributeError):
        return of_initial
    if declared is Any or isinstance(declared, typing.TypeVar):
        return of_initial
    members = tuple(member for member in members_of(declared) if member is not type(None))
    return typing.Union[members]  # noqa: UP007 - of as many as there are
