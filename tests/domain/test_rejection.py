"""How a domain says no, and how that reads and travels."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from rehydrate.domain.rejection import Rejection
from rehydrate.errors import RehydrateError


class InsufficientFunds(Rejection): ...


class Locked(Rejection):
    def __init__(self, by: str) -> None:
        super().__init__(by=by)
        self.by = by


def test_a_rejection_reads_as_its_name_and_its_facts() -> None:
    assert str(InsufficientFunds(balance=20, amount=30)) == "insufficient funds: balance 20, amount 30"
    assert str(InsufficientFunds()) == "insufficient funds"
    assert repr(InsufficientFunds(balance=20)) == "InsufficientFunds(balance=20)"


def test_a_text_in_place_of_facts_is_told_that_they_have_names() -> None:
    kind: Any = InsufficientFunds
    with pytest.raises(TypeError) as refused:
        kind("no money", balance=3)
    assert str(refused.value) == (
        "InsufficientFunds('no money'): facts are given by name, such as InsufficientFunds(reason=...)"
    )


def test_a_rejection_is_not_an_error_of_rehydrate() -> None:
    assert not issubclass(Rejection, RehydrateError)


def test_the_class_alone_may_be_raised() -> None:
    with pytest.raises(InsufficientFunds) as refused:
        raise InsufficientFunds
    assert refused.value.facts == {}


def test_a_rejection_travels_with_its_facts() -> None:
    no = InsufficientFunds(balance=20)
    for back in (copy.copy(no), copy.deepcopy(no), pickle.loads(pickle.dumps(no))):
        assert type(back) is InsufficientFunds
        assert back.facts == {"balance": 20}


def test_a_rejection_with_a_constructor_of_its_own_travels_with_its_facts() -> None:
    back = pickle.loads(pickle.dumps(Locked("ada")))
    assert (type(back), back.facts, str(back)) == (Locked, {"by": "ada"}, "locked: by ada")
