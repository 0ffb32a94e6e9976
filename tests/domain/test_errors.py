"""An error is a value: it can be copied, and it comes back from another process with its text and its facts."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Self

import pytest

from rehydrate import errors
from rehydrate.errors import RehydrateError, StoreError, VersionConflictError
from rehydrate.runtime.answers import own

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


def test_a_copy_of_an_error_with_a_note_has_its_notes_for_itself() -> None:
    error = VersionConflictError("a-1", 3, 4)
    error.add_note("for all")
    back = copy.copy(error)
    back.add_note("only here")
    assert error.__notes__ == ["for all"]
    assert back.__notes__ == ["for all", "only here"]


class Unplugged(StoreError, OSError):
    """As a store of somebody's own may raise it."""


def test_a_copy_of_an_error_that_is_of_the_system_as_well_has_its_number() -> None:
    back = copy.copy(Unplugged(5, "no network"))
    assert (back.errno, str(back)) == (5, "[Errno 5] no network")


class Uncopied(StoreError):
    def __new__(cls, place: str, reason: str) -> Self:
        return super().__new__(cls, place, reason)

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")


def test_an_error_that_cannot_be_copied_is_an_answer_all_the_same() -> None:
    error = Uncopied("somewhere", "no network")
    assert own(error) is error
