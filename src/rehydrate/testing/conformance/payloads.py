"""Laws of what comes back: bytes, types, ids, metadata and times are what was given."""

from __future__ import annotations

import time

import msgspec
import pytest

from rehydrate.store.port import ANY_VERSION, MAX_TIME, MIN_TIME, NewEvent, ReplayPage, Store, StoredEvent
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, sound_log
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest

ALL_BYTES = bytes(range(256))
MIB = 1024 * 1024
PAYLOADS = {
    "empty": b"",
    "one zero byte": b"\0",
    "all byte values": ALL_BYTES,
    "1 MiB": ALL_BYTES * (MIB // 256),
    "no UTF-8": b"\xff\xfe\xc3\x28",
    "text with ends of lines": b'{"a": "1\\n2"}\r\n\n\r',
    "what another database takes for something": b"\\x00 \\N NULL '; -- %s ? $1 :1",
}
TEXTS = {
    "ASCII": "Deposited",
    "spaces": "  Deposited  ",
    "quotes": "'\"`\\",
    "wildcards": "%_*?>.[a-z]",
    "control characters": "\x01\t\n\r\x1f\x7f\x85\u2028",
    "accents": "Übung-naïve",
    "the same accents, decomposed": "U\u0308bung-nai\u0308ve",
    "right to left": "\u202eشيك",
    "beyond 16 bits": "\U0001f98a\U0010ffff",
    "the end of the 16 bits": "\ufffe\uffff",
    "a byte order mark": "\ufeffDeposited",
}


class PayloadLaws(StoreUnderTest):
    @pytest.mark.parametrize("data", PAYLOADS.values(), ids=PAYLOADS)
    @law()
    async def test_data_and_metadata_come_back_as_given(self, store: Store, data: bytes) -> None:
        new = [
            NewEvent(id="a", type="A", data=data),
            NewEvent(id="b", type="B", data=b"{}", metadata=data),
            NewEvent(id="c", type="C", data=data[::-1], metadata=data[:100]),
        ]
        await store.append("account-1", new, expected_version=0)
        await _assert_stored(store, new)

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    @law()
    async def test_types_and_event_ids_come_back_as_given(self, store: Store, text: str) -> None:
        new = [NewEvent(id=text, type=text, data=b"1"), NewEvent(id=f"{text}'", type=f"{text}'", data=b"2")]
        first = await store.append("account-1", new, expected_version=0)
        await _assert_stored(store, new)
        assert await store.append("account-1", new, expected_version=0) == first

    @law()
    async def test_an_event_id_of_any_shape_comes_back_as_given(self, store: Store) -> None:
        """A store may pack what looks like a UUID, but has to unpack it to the same text."""
        ids = [
            "0192f3a6b1c27d3e8f4a5b6c7d8e9f00",
            "0192F3A6B1C27D3E8F4A5B6C7D8E9F00",
            "0192f3a6-b1c2-7d3e-8f4a-5b6c7d8e9f00",
            "{0192f3a6-b1c2-7d3e-8f4a-5b6c7d8e9f00}",
            "00000000000000000000000000000000",
            "0",
            "-1",
            "1e5",
            "007",
            "null",
            "true",
            " ",
        ]
        new = [event(id=id) for id in ids]
        await store.append("account-1", new, expected_version=0)
        await _assert_stored(store, new)

    @law()
    async def test_several_large_events_go_into_one_append(self, store: Store) -> None:
        size = min(4 * MIB, store.capabilities.max_append_bytes) // 4 - 100
        new = [event(data=bytes([n]) * size) for n in range(4)]
        await store.append("account-1", new, expected_version=0)
        await _assert_stored(store, new)

    @pytest.mark.parametrize("given", [0, 1, 1_700_000_000_000_001, 2**53 + 1, MIN_TIME, MAX_TIME])
    @law()
    async def test_the_time_of_an_event_that_brings_one_is_kept(self, store: Store, given: int) -> None:
        new = [msgspec.structs.replace(event(), recorded_at=given), event()]
        await store.append("account-1", new, expected_version=0)
        kept, made = await sound_log(store)
        assert kept.recorded_at == given
        assert made.recorded_at != given

    @pytest.mark.parametrize("beyond", [MIN_TIME - 1, MAX_TIME + 1, 2**70])
    @law()
    async def test_a_time_that_no_store_takes_is_refused_and_nothing_is_stored(
        self, store: Store, beyond: int
    ) -> None:
        new = [event(), msgspec.structs.replace(event(), recorded_at=beyond)]
        for expected in (0, ANY_VERSION):
            with pytest.raises(ValueError, match="64 bits"):
                await store.append("account-1", new, expected_version=expected)
        assert await sound_log(store) == []

    @law()
    async def test_the_time_of_an_event_that_brings_none_is_now_in_microseconds(self, store: Store) -> None:
        await store.append("account-1", events(2), expected_version=0)
        now = time.time() * 1e6
        a_day = 86_400 * 1e6
        for stored in await sound_log(store):
            assert isinstance(stored.recorded_at, int)
            assert abs(stored.recorded_at - now) < a_day, "seconds, milliseconds or nanoseconds?"

    @law(needs=("durable",))
    async def test_everything_comes_back_as_given_after_reopening(
        self, store: Store, another: Another
    ) -> None:
        new = [
            NewEvent(id=f"{text}{name}", type=text, data=data, metadata=data)
            for text, (name, data) in zip(TEXTS.values(), list(PAYLOADS.items()) * 2, strict=False)
        ]
        await store.append("account-1", new, expected_version=0)
        log = await sound_log(store)
        await store.close()
        reopened = await another()
        assert await sound_log(reopened) == log
        await _assert_stored(reopened, new)


async def _assert_stored(store: Store, new: list[NewEvent]) -> None:
    log = await sound_log(store)
    assert len(log) == len(new)
    for given, stored in zip(new, log, strict=True):
        assert (stored.id, stored.type) == (given.id, given.type)
        # Not compared in one assertion: a megabyte that differs need not be shown.
        for name in ("data", "metadata"):
            assert type(getattr(stored, name)) is bytes
            same = getattr(stored, name) == getattr(given, name)
            assert same, f"{name} of {given.id!r} came back different"
    assert await store.replay("account-1") == _replay_of(log)


def _replay_of(log: list[StoredEvent]) -> ReplayPage:
    rows = [(stored.version, stored.type, stored.data) for stored in log]
    return ReplayPage(rows, log[0].id, log[-1].id, log[-1].position, is_last=True)
