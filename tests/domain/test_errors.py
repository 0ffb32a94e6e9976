"""An error is a value: it can be copied, and it comes back from another process with its text and its facts."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator

import pytest

from rehydrate import errors
from rehydrate.errors import RehydrateError, VersionConflictError

_GIVEN = {"int": 3, "str": "x", "bool": True, "tuple[str, ...]": ("a", "b"), "Iterable[str]": ("a",)}


def _kinds(kind: type[RehydrateError] = RehydrateError) -> Iterator[type[RehydrateError]]:
    for its in kind.__subclasses__():
        if its.__module__ == errors.__name__:
            yield its
            yield from _kinds(its)


def _made(kind: type[RehydrateError]) -> RehydrateError:
    """With something in each place of its constructor."""
    if "__init__" not in vars(kind) and not any("__init__" in vars(base) for base in kind.__mro__[1:-3]):
        return kind("x")
    wanted = inspect.signature(kind).parameters.values()
    given = {
        each.name: _GIVEN.get(str(each.annotation), "x")
        for each in wanted
        if each.kind is not each.VAR_POSITIONAL
    }
    return kind(**given)


_KINDS = {kind.__name__: kind for kind in _kinds()}


@pytest.mark.parametrize("name", sorted(_KINDS))
def test_an_error_travels_with_its_text_and_facts(name: str) -> None:
    kind = _KINDS[name]
    error = _made(kind)
    for back in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(back) is kind
        assert (str(back), vars(back)) == (str(error), vars(error))


def test_a_copy_has_facts_of_its_own() -> None:
    error = VersionConflictError("a-1", 3, 4)
    back = copy.copy(error)
    back.add_note("only here")
    assert not hasattr(error, "__notes__")
