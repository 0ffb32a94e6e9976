"""What aggregates, instances and views begin with: each with its own, where it could be changed in place.

A frozen value may hold a list. An `evolve` that appends to it changes what all others begin with; so each begins with a
copy, and the one that was handed out last is compared before the next: an `evolve` that does so is found soon.
"""

from __future__ import annotations

import copy
import enum
import functools
import types
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence, MutableSet
from typing import Any, Final, cast

from rehydrate.codec.records import attribute_names, is_frozen

_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
"""What `copy.deepcopy` gives back as it is."""
_NO_VALUES: Final = (enum.Enum, types.MethodType)
"""What has attributes, and is nobody's own."""


class Beginning:
    """One `initial`, for all that begin with it."""

    def __init__(self, owner: str, initial: Any, changed_by: str = "decide or evolve") -> None:
        self.why = (
            f"{owner}: {changed_by} changed `initial` in place, which all others begin with; evolve is to return a new "
            "value, and whoever reads it leaves it alone"
        )
        """What to tell whoever would go on with functions that do so."""
        self._initial = self._last = initial
        self._kept: Mapping[int, Any] = {}
        self._is_copied = self._is_changed = False
        try:
            self._watch()
        except Exception:  # noqa: BLE001 - whatever the user's classes raise, or too deep: it is taken on trust
            self._initial = self._last = initial
            self._is_copied = False

    def _watch(self) -> None:
        parts = _Parts()
        if not parts.can_change(self._initial):
            return
        self._kept, self._is_copied = parts.kept, True
        # From the one that was declared, which a test may change.
        self._initial = self.copy()
        self._last = self.copy()
        if _differ(self._initial, self._last):
            # A copy would not be what it is a copy of, for `decide` neither.
            raise ValueError("it is not equal to its copy")

    def copy(self) -> Any:
        """As a reader may have it, or a fold that nothing is decided on."""
        if not self._is_copied:
            return self._initial
        return copy.deepcopy(self._initial, dict(self._kept))

    def new(self) -> Any:
        """What the next one begins with."""
        if not self._is_copied:
            return self._initial
        self._last = self.copy()
        return self._last

    def is_changed(self, begun: Any = None) -> bool:
        """Whether one was found that is not as it was handed out, now or before: of the last, and of `begun`."""
        if self._is_copied and not self._is_changed:
            self._is_changed = self._is_other(self._last) or (begun is not None and self._is_other(begun))
        return self._is_changed

    def _is_other(self, begun: Any) -> bool:
        try:
            return _differ(self._initial, begun)
        except Exception:  # noqa: BLE001 - whatever the user's classes raise: nothing is known then
            return False


def _differ(before: Any, after: Any) -> bool:
    """Whether two copies differ in what they were given, and not only in what they remember of their own reading."""
    if before is after or before == after:
        return False
    if type(before) is not type(after):
        return True
    if names := attribute_names(type(before)):
        return any(_differ(getattr(before, name), getattr(after, name)) for name in names)
    if isinstance(before, MutableMapping):
        return before.keys() != after.keys() or any(_differ(before[key], after[key]) for key in before)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
    if isinstance(before, MutableSequence | tuple):
        return len(before) != len(after) or any(map(_differ, before, after))  # pyright: ignore[reportUnknownArgumentType]
    befores, afters = _given(before), _given(after)
    has_remembered = len(befores) + len(afters) < len(_attributes(before)) + len(_attributes(after))
    return (
        not has_remembered
        or befores.keys() != afters.keys()
        or any(_differ(befores[name], afters[name]) for name in befores)
    )


def _given(value: object) -> dict[str, Any]:
    """The attributes of an object without what only `functools.cached_property` has kept there."""
    return {
        name: its
        for name, its in _attributes(value).items()
        if not isinstance(getattr(type(value), name, None), functools.cached_property)
    }


def _attributes(value: object) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


class _Parts:
    """The parts of a value, and which of them all copies have in common."""

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}
        """By `id`, what nobody can change, and what is equal to itself alone: a copy would be another thing."""
        self._changing: dict[int, Any] = {}
        """By `id`, what can be changed or was not looked at to its end; kept so that no other takes its `id`."""

    def can_change(self, value: Any) -> bool:
        """Whether something in a value can be changed in place."""
        if type(value) in _SCALARS or id(value) in self.kept:
            return False
        if id(value) in self._changing:
            # Where it refers back to itself, it can only have been changed.
            return True
        self._changing[id(value)] = value
        own, parts = _own_and_parts(value)
        # Every part is looked at, for what it keeps.
        if sum(self.can_change(part) for part in parts) or own:
            return True
        self.kept[id(value)] = self._changing.pop(id(value))
        return False


def _own_and_parts(value: Any) -> tuple[bool, Iterable[Any]]:
    """Whether a value itself can be changed in place, and what it consists of."""
    is_equal: object = type(value).__eq__
    if is_equal is object.__eq__:
        return False, ()
    if isinstance(value, MutableMapping):
        of_mapping = cast("Mapping[Any, Any]", value)
        return True, [*of_mapping.keys(), *of_mapping.values()]
    if isinstance(value, MutableSequence | MutableSet | tuple | frozenset):
        return not isinstance(value, tuple | frozenset), list(cast("Iterable[Any]", value))
    if names := attribute_names(value.__class__):
        return not is_frozen(type(value)), [getattr(value, name, None) for name in names]
    if getattr(value, "__dict__", None) and not isinstance(value, _NO_VALUES):
        return True, list(cast("dict[str, Any]", value.__dict__).values())
    return False, ()
