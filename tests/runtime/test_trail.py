"""A trail tells at which versions an id may stand: never of one that is there that it is not."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from rehydrate.runtime.trail import Trail


def ids(first: int, last: int) -> list[tuple[str, int]]:
    """One for each version."""
    return [(f"c{version}", version) for version in range(first, last + 1)]


def test_an_empty_trail_finds_nothing() -> None:
    trail = Trail(7, 70)
    assert trail.find("c1") == []
    assert (len(trail), trail.since, trail.since_position) == (0, 7, 70)


def test_it_reaches_what_was_stored_behind_the_event_that_it_begins_at() -> None:
    trail = Trail(7, 70)
    assert trail.reaches(70)
    assert not trail.reaches(69)
    assert trail.extend_back(ids(3, 7), 2, 20)
    assert trail.reaches(20)
    assert not trail.reaches(19)
    assert trail.extend_back(ids(1, 2), 0, 0)
    assert trail.reaches(0)


def test_an_id_that_stands_at_two_places_is_found_at_the_newest_first() -> None:
    trail = Trail(10, 10)
    trail.extend([("a", 12)], 10, 10)
    trail.extend([("b", 13), ("a", 15)], 12, 12)
    assert trail.extend_back([("a", 9)], 8, 8)
    assert trail.find("a") == [15, 12, 9]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_it_is_made_of_it_finds_every_id_at_its_version(seed: int) -> None:
    draw = random.Random(seed)
    begun = draw.choice([500, 2**24 - 3, 2**24 + 700, 2**33])
    trail = Trail(begun, begun)
    first, last = begun + 1, begun
    with mock.patch("rehydrate.runtime.trail._PART", draw.choice([8, 64, 65_536])):
        for _ in range(60):
            count = draw.choice([1, 2, 7, 30])
            if draw.random() < 0.5:
                trail.extend(ids(last + 1, last + count), last, last)
                last += count
            elif first > count:
                assert trail.extend_back(ids(first - count, first - 1), first - count - 1, first - count - 1)
                first -= count
    assert (trail.since, trail.since_position, len(trail)) == (first - 1, first - 1, last - first + 1)
    assert all(version in trail.find(id) for id, version in ids(first, last))
    assert not any(trail.find(f"other {n}") for n in range(100))


def test_ids_of_the_same_hash_are_all_found() -> None:
    with mock.patch("rehydrate.runtime.trail._HASHES", 0):
        trail = Trail(0, 0)
        trail.extend(ids(1, 3), 0, 0)
        trail.extend(ids(4, 5), 3, 3)
        assert trail.find("any") == [5, 4, 3, 2, 1]


def test_what_stands_far_apart_is_found_where_it_stands() -> None:
    trail = Trail(0, 0)
    trail.extend([("a", 5)], 0, 0)
    trail.extend([("b", 2**24 + 5)], 2**24, 0)
    assert (trail.find("a"), trail.find("b")) == ([5], [2**24 + 5])


def test_there_is_a_limit_to_what_it_keeps_and_the_oldest_is_forgotten() -> None:
    with (
        mock.patch("rehydrate.runtime.trail.TRAIL_IDS", 100),
        mock.patch("rehydrate.runtime.trail._PART", 10),
    ):
        trail = Trail(0, 0)
        for start in range(0, 400, 10):
            trail.extend(ids(start + 1, start + 10), start, 10 * start)
            assert len(trail) <= 100
        assert (trail.since, trail.since_position) == (300, 3_000)
        assert trail.find("c300") == []
        assert all(trail.find(f"c{version}") == [version] for version in range(301, 401))
        assert not trail.extend_back(ids(291, 300), 290, 2_900)
        assert trail.since == 300
