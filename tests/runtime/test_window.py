"""Which commands a stream has seen: what a window keeps, forgets, and can tell."""

from __future__ import annotations

import random

import pytest

from rehydrate import CorruptStoreError
from rehydrate.runtime.limits import WINDOW_EVENTS
from rehydrate.runtime.window import Seen, Window, commands_of, metadata_in
from rehydrate.store.port import StoredEvent


def stored(version: int, command_id: str, digest: str | None = None) -> StoredEvent:
    """An event at version and, ten times as far, at a position."""
    metadata = f'{{"command_id":"{command_id}"' + (f',"fingerprint":"{digest}"}}' if digest else "}")
    return StoredEvent("s-1", version, 10 * version, f"e{version}", "Deposited", b"{}", metadata.encode(), 0)


def stream(*lengths: int) -> list[StoredEvent]:
    """The events of commands c1, c2, c3... with so many events each."""
    events: list[StoredEvent] = []
    for number, length in enumerate(lengths, 1):
        events += [stored(len(events) + 1 + index, f"c{number}", f"d{number}") for index in range(length)]
    return events


def test_consecutive_events_of_one_command_are_one_command() -> None:
    assert commands_of(stream(2, 1, 3)) == [
        ("c1", Seen(1, 2, "d1"), 20),
        ("c2", Seen(3, 3, "d2"), 30),
        ("c3", Seen(4, 6, "d3"), 60),
    ]


def test_metadata_that_is_none_is_reported_with_its_place() -> None:
    event = StoredEvent("s-1", 7, 70, "e7", "Deposited", b"{}", b"{", 0)
    with pytest.raises(CorruptStoreError, match="s-1 version 7"):
        metadata_in(event)


def test_events_of_no_command_have_no_id_that_could_be_asked_for() -> None:
    assert metadata_in(StoredEvent("s-1", 1, 1, "e", "T", b"{}", b"{}", 0)).command_id == ""


def test_a_window_that_begins_with_the_stream_can_tell_everything() -> None:
    window = Window(0, 0)
    assert window.covers(5_000, None)
    assert window.covers(5_000, 0)


def test_a_window_can_tell_once_it_reaches_back_far_enough() -> None:
    window = Window(2_000, 20_000)
    assert not window.covers(2_000, None)
    assert not window.covers(2_000 + WINDOW_EVENTS - 1, None)
    assert window.covers(2_000 + WINDOW_EVENTS, None)


def test_a_window_that_is_older_than_the_cause_can_tell_however_short_it_is() -> None:
    window = Window(2_000, 20_000)
    assert window.covers(2_000, 20_000)
    assert not window.covers(2_000, 19_999)


def test_a_command_that_was_cut_where_reading_began_is_joined_with_its_older_part() -> None:
    events = stream(1, 4, 1)
    window = Window(3, 30)
    window.add_events(events[3:])
    assert window.find("c2") == Seen(4, 5, "d2")
    window.extend_back(events[:3], 0, 0)
    assert window.find("c1") == Seen(1, 1, "d1")
    assert window.find("c2") == Seen(2, 5, "d2")
    assert window.find("c3") == Seen(6, 6, "d3")


def test_a_command_whose_events_come_in_two_reads_is_one_command() -> None:
    events = stream(1, 4)
    window = Window(0, 0)
    window.add_events(events[:3])
    window.add_events(events[3:])
    assert window.find("c2") == Seen(2, 5, "d2")


@pytest.mark.parametrize("seed", range(5))
def test_however_it_was_filled_a_window_knows_every_command_of_the_last_1024_events(seed: int) -> None:
    draw = random.Random(seed)
    events = stream(*(draw.choice([1, 1, 1, 2, 5, 40]) for _ in range(800)))
    begun = draw.choice(
        [last for _, seen, _ in commands_of(events) if (last := seen.last) < len(events) // 2]
    )
    window = Window(begun, 10 * begun)
    version = begun
    if draw.random() < 0.7:
        start = max(0, begun - WINDOW_EVENTS)
        window.extend_back(events[start:begun], start, 10 * start)
    while version < len(events):
        end = min(len(events), version + draw.choice([1, 3, 50, 700]))
        # An append is visible whole, so a command is never read in part.
        while end < len(events) and _id(events[end]) == _id(events[end - 1]):
            end += 1
        page = events[version:end]
        if draw.random() < 0.5:
            window.add_events(page)
        else:
            for command_id, seen, position in commands_of(page):
                window.add(command_id, seen, position)
        version = page[-1].version
        assert window.since_position == 10 * window.since
        if window.covers(version, None):
            _knows_all(window, events[:version])
    assert window.covers(version, None)


def _id(event: StoredEvent) -> str:
    return metadata_in(event).command_id


def _knows_all(window: Window, events: list[StoredEvent]) -> None:
    within = commands_of(events)
    for command_id, seen, _ in within:
        found = window.find(command_id)
        if seen.last > max(0, len(events) - WINDOW_EVENTS):
            assert found is not None
        if found is not None:
            assert (found.last, found.digest) == (seen.last, seen.digest)
            assert found.first == seen.first or seen.first <= window.since < found.first


def test_a_window_forgets_what_is_older_than_two_generations() -> None:
    window = Window(0, 0)
    for version in range(1, 3 * WINDOW_EVENTS + 1):
        window.add(f"c{version}", Seen(version, version, None), version)
    assert window.find("c1") is None
    assert window.find(f"c{2 * WINDOW_EVENTS + 1}") is not None
    assert 0 < window.since <= 2 * WINDOW_EVENTS
