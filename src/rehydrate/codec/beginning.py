"""What aggregates, instances and views begin with: each with its own, where it could be changed in place.

A frozen value may hold a list. An `evolve` that appends to it changes what all others begin with; so each begins with a
copy, and the one that was handed out last is compared before the next: an `evolve` that does so is found soon.
"""

from __future__ import annotations

import copy
import enum
import types
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence, MutableSet
from typing import Any, Final, cast

from rehydrate.codec.difference import difference
from rehydrate.codec.records import attribute_names, is_frozen

_NO_VALUES: Final = (
    type,
    enum.Enum,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
)
"""What has attributes, and is nobody's own."""


class Beginning:
    """One `initial`, for all that begin with it."""

    def __init__(self, owner: str, initial: Any) -> None:
        self.why = (
            f"{owner}: evolve changed `initial` in place, which all others begin with; return a new value (decide, and "
            "whoever reads it, must leave it alone, too)"
        )
        """What to tell whoever would go on with an `evolve` that does so."""
        self._initial = initial
        self._kept: dict[int, Any] = {}
        self._last = initial
        self._is_copied = _can_change(initial, self._kept, set())
        self._is_compared = self._is_changed = False
        if self._is_copied:
            self._watch()

    def _watch(self) -> None:
        try:
            # From the one that was declared, which a test may change.
            self._initial = self.copy()
            self._last = self.copy()
        except Exception:  # noqa: BLE001 - whatever the user's classes raise: it is then taken on trust
            self._is_copied = False
        else:
            self._is_compared = not _differ(self._initial, self._last)

    def copy(self) -> Any:
        """As a reader may have it, or a fold that nothing is decided on."""
        if not self._is_copied:
            return self._initial
        # What is no container and no record is the same in all copies, such as an object that stands for "not given".
        return copy.deepcopy(self._initial, dict(self._kept))

    def new(self) -> Any:
        """What the next one begins with."""
        if not self._is_copied:
            return self._initial
        self._last = self.copy()
        return self._last

    def is_changed(self, begun: Any = None) -> bool:
        """Whether one was found that is not as it was handed out, now or before: of the last, and of `begun`."""
        if self._is_compared and not self._is_changed:
            self._is_changed = _differ(self._initial, self._last) or (
                begun is not None and _differ(self._initial, begun)
            )
        return self._is_changed


def _differ(before: Any, after: Any) -> bool:
    try:
        return difference(before, after) is not None
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return True


def _can_change(value: Any, kept: dict[int, Any], seen: set[int]) -> bool:
    """Whether something in a value can be changed in place; what is no container and no record goes into `kept`."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    parts: list[Any]
    if isinstance(value, MutableMapping):
        of_mapping = cast("Mapping[Any, Any]", value)
        can_change, parts = True, [*of_mapping.keys(), *of_mapping.values()]
    elif isinstance(value, MutableSequence | MutableSet | tuple | frozenset):
        can_change = not isinstance(value, tuple | frozenset)
        parts = list(cast("Iterable[Any]", value))
    elif names := attribute_names(value.__class__):
        can_change, parts = not is_frozen(type(value)), [getattr(value, name, None) for name in names]
    elif getattr(value, "__dict__", None) and not isinstance(value, _NO_VALUES):
        can_change, parts = True, list(cast("dict[str, Any]", value.__dict__).values())
    else:
        kept[id(value)] = value
        return False
    # Every part is looked at, for what it keeps.
    return any([can_change, *[_can_change(part, kept, seen) for part in parts]])
