"""Whether a None is a state, or a view that is removed, or a forgotten `return`."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional, Self, TypeVar, Union

import pytest

from rehydrate.codec.none import may_be_none, says_none

if TYPE_CHECKING:
    from tests.codec.test_states import Left as State
    from tests.codec.test_states import Right as MaybeState

T = TypeVar("T")
Maybe = int | None


@dataclass(frozen=True)
class Cart:
    def empty(self, event: object) -> Self | None:
        raise NotImplementedError

    def same(self, event: object) -> Self:
        raise NotImplementedError

    def named(self, event: object) -> "Cart":  # noqa: UP037 - as written without the import from the future
        raise NotImplementedError


class Callable_:  # noqa: N801
    def __call__(self, state: int, event: object) -> int | None:
        raise NotImplementedError


class State_:  # noqa: N801
    pass


State_.__name__ = "State"


def nothing(state, event):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def none(state: int, event: object) -> None:
    raise NotImplementedError


def whole(state: int, event: object) -> int:
    raise NotImplementedError


def union(state: int, event: object) -> int | None:
    raise NotImplementedError


def optional(state: int, event: object) -> Optional[int]:  # noqa: UP045
    raise NotImplementedError


def written(state: int, event: object) -> "Union[int, None]":  # noqa: UP007, UP037
    raise NotImplementedError


def alias(state: int, event: object) -> Maybe:
    raise NotImplementedError


def annotated(state: int, event: object) -> Annotated[int | None, "remark"]:
    raise NotImplementedError


def anything(state: int, event: object) -> Any:
    raise NotImplementedError


def an_object(state: int, event: object) -> object:
    raise NotImplementedError


def generic(state: T, event: object) -> T:
    raise NotImplementedError


def partly(state: Missing, event: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    raise NotImplementedError


def hidden(state: State, event: object) -> State:
    raise NotImplementedError


def hidden_alias(state: State, event: object) -> MaybeState:
    raise NotImplementedError


def of_state(state: int | None, event: object):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def of_event(state, event: int | None):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def of_state_only(state: int | None, event: object) -> int:
    raise NotImplementedError


@functools.wraps(union)
def wrapped(*given: Any) -> Any:
    raise NotImplementedError


SAYS_SO: list[Any] = [
    union, optional, written, alias, annotated, anything, an_object, wrapped, hidden_alias, Cart.empty, Cart().empty,
    Callable_(), functools.partial(union), functools.partial(Callable_()),
]  # fmt: skip
SAYS_NOTHING_OF_IT: list[Any] = [
    nothing, none, whole, generic, partly, hidden, of_event, of_state_only, Cart.same, Cart.named,
    operator.mul, max, functools.partial(whole), object(),
]  # fmt: skip


@pytest.mark.parametrize("evolve", SAYS_SO, ids=range(len(SAYS_SO)))
def test_an_evolve_that_says_that_it_returns_none_may(evolve: Any) -> None:
    assert says_none(evolve, State_())
    assert may_be_none(evolve, State_())


@pytest.mark.parametrize("evolve", SAYS_NOTHING_OF_IT, ids=range(len(SAYS_NOTHING_OF_IT)))
def test_one_that_does_not_say_so_may_not_unless_none_is_what_all_begin_with(evolve: Any) -> None:
    assert not says_none(evolve, State_())
    assert not may_be_none(evolve, State_())
    assert may_be_none(evolve, None)


def test_a_state_that_may_be_none_says_so_for_an_evolve_that_says_nothing() -> None:
    assert may_be_none(of_state, 1)
    assert not says_none(of_state, 1), "a view that evolve is given is never None"
