"""How events become appends, for every log: nothing is lost, moved, or torn apart."""

from __future__ import annotations

from itertools import groupby

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.cli.moving.packing import MAX_BATCH_APPENDS, MAX_BATCH_BYTES, Packer, Parcel
from rehydrate.store.port import Capabilities, StoredEvent

LIMITS = Capabilities(
    durable=True,
    single_writer=False,
    multi_process=True,
    stopped_writer_holds_lock=False,
    max_append_events=6,
    max_append_bytes=1_000,
)
UNLIMITED = msgspec.structs.replace(LIMITS, max_append_events=4_096, max_append_bytes=16 * 1024 * 1024)


def log_of(commands: list[tuple[str, str, int, int]]) -> list[StoredEvent]:
    """A log in which each command stored so many events of that size in its stream."""
    versions: dict[str, int] = {}
    log: list[StoredEvent] = []
    for stream, command, count, size in commands:
        metadata = msgspec.json.encode({"command_id": command}) if command else b"\xff"
        for _ in range(count):
            versions[stream] = versions.get(stream, 0) + 1
            number = len(log) + 1
            log.append(
                StoredEvent(
                    stream, versions[stream], number, f"e{number}", "T", b"x" * size, metadata, number
                )
            )
    return log


def packed(
    log: list[StoredEvent], page: int = 1_000, capabilities: Capabilities = UNLIMITED
) -> list[list[Parcel]]:
    packer = Packer(capabilities)
    batches: list[list[Parcel]] = []
    for start in range(0, len(log), page):
        batches += packer.add(log[start : start + page])
    return [*batches, *packer.finish()]


streams = st.sampled_from(["a-1", "a-2", "b-1"])
commands = st.lists(
    st.tuples(
        streams,
        st.one_of(st.just(""), st.integers(0, 40).map(str)),
        st.integers(1, 8),
        st.integers(0, 400),
    ),
    max_size=40,
)


@given(commands, st.integers(1, 50))
def test_batches_in_their_order_are_the_log(commands: list[tuple[str, str, int, int]], page: int) -> None:
    log = log_of(commands)
    batches = packed(log, page, LIMITS)
    stored = [
        (parcel.stream, parcel.expected_version + number, event.id)
        for batch in batches
        for parcel in batch
        for number, event in enumerate(parcel.events, 1)
    ]
    assert stored == [(event.stream, event.version, event.id) for event in log]


@given(commands, st.integers(1, 50))
def test_a_batch_holds_a_stream_once_and_an_append_keeps_the_limits(
    commands: list[tuple[str, str, int, int]], page: int
) -> None:
    for batch in packed(log_of(commands), page, LIMITS):
        assert len({parcel.stream for parcel in batch}) == len(batch)
        for parcel in batch:
            assert len(parcel.events) <= LIMITS.max_append_events
            size = sum(len(event.data) + len(event.metadata) for event in parcel.events)
            assert parcel.size == size
            assert size <= LIMITS.max_append_bytes or len(parcel.events) == 1


@given(commands, st.integers(1, 50))
def test_what_one_command_stored_stays_one_append_whatever_the_pages(
    commands: list[tuple[str, str, int, int]], page: int
) -> None:
    log = log_of(commands)
    append_of = {
        event.id: number
        for number, parcel in enumerate(parcel for batch in packed(log, page) for parcel in batch)
        for event in parcel.events
    }
    for (_, metadata), made in groupby(log, key=lambda event: (event.stream, event.metadata)):
        if metadata != b"\xff":
            assert len({append_of[event.id] for event in made}) == 1


def test_neighbours_in_one_stream_become_one_append() -> None:
    log = log_of([("a-1", "1", 2, 5), ("a-1", "2", 1, 5), ("a-1", "", 2, 5), ("b-1", "4", 1, 5)])
    ((first, second),) = packed(log)
    assert (first.stream, first.expected_version, len(first.events)) == ("a-1", 0, 5)
    assert (second.stream, second.expected_version, second.place) == ("b-1", 0, 6)


def test_a_command_that_is_too_large_for_the_destination_is_divided_and_nothing_else_is() -> None:
    log = log_of([("a-1", "1", 4, 10), ("a-1", "2", 13, 10), ("a-1", "3", 2, 300), ("a-1", "4", 2, 900)])
    parcels = [parcel for batch in packed(log, capabilities=LIMITS) for parcel in batch]
    assert [len(parcel.events) for parcel in parcels] == [4, 6, 6, 3, 1, 1]


def test_a_log_that_names_one_command_all_along_is_not_kept_in_memory() -> None:
    packer = Packer(LIMITS)
    log = log_of([("a-1", "always", 1_000, 1)])
    placed = sum(len(parcel.events) for batch in packer.add(log) for parcel in batch)
    assert placed >= len(log) - 2 * LIMITS.max_append_events


def test_a_batch_is_bounded_in_appends_and_in_bytes() -> None:
    many = log_of([(f"a-{n}", "", 1, 1) for n in range(2 * MAX_BATCH_APPENDS + 5)])
    assert [len(batch) for batch in packed(many)] == [MAX_BATCH_APPENDS, MAX_BATCH_APPENDS, 5]
    large = log_of([(f"a-{n}", "", 1, MAX_BATCH_BYTES // 3) for n in range(5)])
    assert [len(batch) for batch in packed(large)] == [2, 2, 1]


def test_an_empty_log_makes_no_batch() -> None:
    assert packed([]) == []
