"""Columns that are looked at as rows are a list of rows to everybody who looks."""

from itertools import product

import pytest

from rehydrate.store.event_rows import EventRows

TYPES = ["Deposited", "Withdrawn", "Deposited", "Closed"]
DATA = [b"1", b"2", b"3", b"4"]
ROWS = EventRows(7, TYPES, DATA)
LIST = [(7, "Deposited", b"1"), (8, "Withdrawn", b"2"), (9, "Deposited", b"3"), (10, "Closed", b"4")]


def test_they_are_the_same_rows() -> None:
    assert list(ROWS) == LIST
    assert len(ROWS) == 4
    assert ROWS == LIST
    assert EventRows(7, TYPES, DATA) == ROWS
    assert EventRows(6, TYPES, DATA) != ROWS
    assert hash(ROWS) == hash(EventRows(7, TYPES, DATA))
    assert repr(ROWS) == repr(LIST)
    assert not EventRows(1, [], [])


def test_a_row_is_found_from_either_end() -> None:
    assert [ROWS[at] for at in range(-4, 4)] == LIST * 2
    for at in (4, -5):
        with pytest.raises(IndexError):
            ROWS[at]


def test_a_part_of_them_is_that_part() -> None:
    for start, end, step in product((None, 0, 1, 4, 9, -2, -9), (None, 0, 2, 4, 9, -1), (None, 1, 2, -1)):
        assert ROWS[start:end:step] == LIST[start:end:step], (start, end, step)
