"""Which refusals an aggregate knows by name, so that one which comes from another process is raised as itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rehydrate.codec.types import members_of, text
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import ConfigurationError


def rejections_of(aggregate: Aggregate[Any, Any, Any]) -> Mapping[str, type[Rejection]]:
    """The classes of `rejections=` by their names; where nothing is given, those in the module of `decide`.

    Raises `ConfigurationError` for what is no class of refusals, and for two of one name.
    """
    if aggregate.rejections is None:
        return _in_module(getattr(aggregate.decide, "__module__", None))
    by_name: dict[str, type[Rejection]] = {}
    for member in members_of(aggregate.rejections):
        if not (isinstance(member, type) and issubclass(member, Rejection)):
            raise ConfigurationError(
                f"aggregate {aggregate.name!r}: rejections= has {text(member)}, which is no Rejection; give a subclass, "
                "or a union of some"
            )
        if by_name.setdefault(member.__name__, member) is not member:
            raise ConfigurationError(
                f"aggregate {aggregate.name!r}: two of its rejections are named {member.__name__}: rename one of them"
            )
    return by_name


def _in_module(name: str | None) -> dict[str, type[Rejection]]:
    module = sys.modules.get(name or "")
    # Also those that are declared inside of a function or a class; what stands in the module itself comes last and wins.
    found = {kind.__name__: kind for kind in _all_below(Rejection) if kind.__module__ == name}
    for value in list(vars(module).values()) if module is not None else ():
        if isinstance(value, type) and issubclass(value, Rejection) and value is not Rejection:
            found[value.__name__] = value
    return found


def _all_below(kind: type[Rejection]) -> Iterable[type[Rejection]]:
    for below in kind.__subclasses__():
        yield below
        yield from _all_below(below)
