"""An append is sent again soon where acknowledgements are quick, and late where servers have much to do."""

from __future__ import annotations

from rehydrate.store.nats.patience import LEAST, MOST, Patience


def test_before_anything_is_known_it_is_long() -> None:
    assert Patience().seconds == MOST


def test_after_many_quick_acknowledgements_it_is_short() -> None:
    patience = Patience()
    for _ in range(300):
        patience.heard_after(0.002)
    assert patience.seconds == LEAST


def test_one_slow_acknowledgement_makes_it_longer_for_a_while() -> None:
    patience = Patience()
    for _ in range(300):
        patience.heard_after(0.002)
    patience.heard_after(0.1)
    assert patience.seconds == 0.5
    patience.heard_after(0.002)
    assert LEAST < patience.seconds < 0.5


def test_it_is_never_longer_than_its_bound() -> None:
    patience = Patience()
    patience.heard_after(30)
    assert patience.seconds == MOST
