"""Whether `evolve` says that it returns None; if it does not, a None is a forgotten `return`."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from rehydrate.codec.types import members_of


def may_be_none(evolve: Callable[..., Any], initial: object) -> bool:
    """Whether a state may be None: where it is what all begin with, or `evolve` says so."""
    return initial is None or says_none(evolve, initial) or _takes_none(evolve, initial)


def says_none(evolve: Callable[..., Any], initial: object) -> bool:
    """Whether `evolve` says that it returns None beside values: one that says nothing may have forgotten to return.

    Where what it says cannot be found from its module, it is taken for that, unless it is the name of the class of
    `initial`.
    """
    declared = _annotations(evolve).get("return")
    return declared is not None and _holds_none(declared, evolve, initial)


def _takes_none(evolve: Callable[..., Any], initial: object) -> bool:
    """The same of an `evolve` that says what it is given, and not what it returns."""
    try:
        state = next(iter(inspect.signature(evolve).parameters.values()))
    except (TypeError, ValueError, NameError, StopIteration):
        return False
    said = state.annotation is not state.empty and "return" not in _annotations(evolve)
    return said and _holds_none(state.annotation, evolve, initial)


def _annotations(evolve: Callable[..., Any]) -> dict[str, Any]:
    """What a function says of itself, as it is written there."""
    try:
        return inspect.get_annotations(_function(evolve))
    except Exception:  # noqa: BLE001 - since Python 3.14 it may raise whatever evaluating them does
        return {"return": Any}


def _function(evolve: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(evolve, functools.partial):
        evolve = evolve.func
    return evolve if inspect.isroutine(evolve) else type(evolve).__call__


def _holds_none(declared: Any, evolve: Callable[..., Any], initial: object) -> bool:
    names = getattr(inspect.unwrap(_function(evolve)), "__globals__", {})
    alone = types.SimpleNamespace(__annotations__={"declared": declared})
    try:
        members = members_of(typing.get_type_hints(alone, globalns=names)["declared"])
    except Exception:  # noqa: BLE001 - a name that only a type checker knows, or whatever else stands there
        return str(declared) != type(initial).__name__
    # None alone is what a function says that returns nothing.
    return Any in members or object in members or (type(None) in members and len(members) > 1)
