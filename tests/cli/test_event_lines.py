"""An event as a line of JSON, and back to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.cli.moving.event_lines import MalformedEventError, as_lines, check_first, event_in, first_line
from rehydrate.store.port import StoredEvent
from tests.cli.moving import ODD_BYTES

EVENT = StoredEvent("a-1", 1, 2, "e1", "T", b'{"a":1}', b"{}", 1_700_000_000_000_001)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
payloads = st.one_of(
    st.binary(max_size=40), st.sampled_from(ODD_BYTES), st.from_regex(rb"[\[\]{}\":, 0-9a\\\n]{0,12}")
)


@given(texts, st.integers(1, 2**31), texts, texts, payloads, payloads, st.integers(-(2**62), 2**62))
def test_every_event_comes_back_from_its_line_byte_for_byte(
    stream: str, version: int, id: str, type: str, data: bytes, metadata: bytes, recorded_at: int
) -> None:
    event = StoredEvent(stream, version, 7, id, type, data, metadata, recorded_at)
    line = as_lines([event])
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["position"] == 7
    assert event_in(line[:-1], 7) == event


def test_a_line_is_readable_where_the_bytes_allow_it() -> None:
    assert json.loads(as_lines([EVENT])) == {
        "stream": "a-1", "version": 1, "position": 2, "id": "e1", "type": "T",
        "recorded_at": "2023-11-14T22:13:20.000001Z", "data": {"a": 1}, "metadata": {},
    }  # fmt: skip
    odd = msgspec.structs.replace(EVENT, data=b"\xff", metadata=b" {}", recorded_at=2**62)
    assert json.loads(as_lines([odd])) == {
        "stream": "a-1", "version": 1, "position": 2, "id": "e1", "type": "T", "recorded_at": 2**62,
        "data_base64": "/w==", "metadata_base64": "IHt9",
    }  # fmt: skip


@pytest.mark.parametrize("written", ["2023-11-14T22:13:20.000001Z", "2023-11-15T00:13:20.000001+02:00"])
def test_a_time_may_be_written_in_any_zone(written: str) -> None:
    line = json.loads(as_lines([EVENT])) | {"recorded_at": written}
    assert event_in(json.dumps(line).encode(), 2).recorded_at == EVENT.recorded_at


@pytest.mark.parametrize(
    ("written", "beyond"),
    [
        ("9999-12-31T23:59:59.999999-01:00", 253_402_300_799_999_999 + 3_600_000_000),
        ("0001-01-01T00:00:00+01:00", -62_135_596_800_000_000 - 3_600_000_000),
    ],
)
def test_a_time_may_be_written_in_a_zone_where_the_year_still_has_four_digits(
    written: str, beyond: int
) -> None:
    line = json.loads(as_lines([EVENT])) | {"recorded_at": written}
    event = event_in(json.dumps(line).encode(), 2)
    assert event.recorded_at == beyond
    assert event_in(as_lines([event])[:-1], 2) == event


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: {key: value for key, value in line.items() if key != name}


def having(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: line | fields


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no id": (without("id"), "it has no field 'id'"),
    "no data": (without("data"), "it needs either 'data' or 'data_base64'"),
    "data twice": (having(data_base64="/w=="), "it needs either 'data' or 'data_base64'"),
    "no base64": (lambda line: without("data")(line) | {"data_base64": "?"}, "'data_base64' is no base64"),
    "an unknown field": (having(causation="x"), "there is no field 'causation'"),
    "a version of 0": (having(version=0), "'version' is 0, and versions begin with 1"),
    "a version in words": (having(version="one"), "'version' must be a whole number, and is a text"),
    "an id that no store takes": (having(id=""), "this event id cannot be used: it is empty"),
    "a stream that is too long": (having(stream="x" * 700), "this stream cannot be used"),
    "a time without a zone": (having(recorded_at="2024-05-17T09:30:00"), "'recorded_at' must be like"),
    "no time": (having(recorded_at="yesterday"), "'recorded_at' must be like"),
    "a time that no store takes": (
        having(recorded_at=2**63),
        "'recorded_at' is 9223372036854775808, and a time is a whole number of 64 bits",
    ),
    "a time that is too early for any store": (
        having(recorded_at=-(2**63) - 1),
        "is a whole number of 64 bits",
    ),
    "a list": (lambda _: [], "it must be an object, and is a list"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_line_that_is_no_event_says_why(what: str) -> None:
    change, sentence = MALFORMED[what]
    with pytest.raises(MalformedEventError) as found:
        event_in(json.dumps(change(json.loads(as_lines([EVENT])))).encode(), 2)
    assert sentence in str(found.value)


@pytest.mark.parametrize("line", [b"", b"{", b'{"stream":"\xff"}', b"[" * 100_000, b'{"data":{"a":tru}}'])
def test_a_line_that_is_no_json_says_so(line: bytes) -> None:
    with pytest.raises(MalformedEventError, match="not an event: "):
        event_in(line, 2)


def test_data_that_a_lax_decoder_would_pass_over_is_refused() -> None:
    line = as_lines([EVENT]).strip().replace(b'{"a":1}', b'{"a":"\xff"}')
    with pytest.raises(MalformedEventError):
        event_in(line, 2)


def test_the_first_line_is_recognised_also_with_fields_of_a_later_version() -> None:
    check_first(first_line())
    check_first(b'{"format": "rehydrate events", "version": 1, "by": "somebody"}')
    with pytest.raises(MalformedEventError, match="knows version 1: upgrade it"):
        check_first(b'{"format":"rehydrate events","version":2}')
    for other in (b"{}", b"", b"\xff", as_lines([EVENT])):
        with pytest.raises(MalformedEventError, match="is it one"):
            check_first(other)


NESTINGS: dict[str, Callable[[int], bytes]] = {
    "lists": lambda depth: b"[" * depth + b"]" * depth,
    "objects": lambda depth: b'{"a":' * depth + b"1" + b"}" * depth,
    "both, beside much that is flat": lambda depth: (
        b'[["[[[",{}],' * (depth // 2) + b'{"\\"]":' * (depth // 2) + b"[]" + b"}" * (depth // 2) + b"]" * (depth // 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NESTINGS)
def test_what_is_nested_so_deeply_that_a_reader_could_give_up_is_in_base64(kind: str) -> None:
    nested = NESTINGS[kind]
    for depth in range(2, 1_200, 2):
        event = msgspec.structs.replace(EVENT, data=nested(depth), metadata=nested(depth))
        line = as_lines([event])
        assert event_in(line[:-1], 2) == event
        if depth < 50:
            assert b"base64" not in line
        if depth > 110:
            assert line.count(b"base64") == 2


def test_what_is_wide_and_not_deep_stays_readable() -> None:
    event = msgspec.structs.replace(EVENT, data=b"[" + b'{"a":[]},' * 5_000 + b'"]]]"]')
    assert b"base64" not in as_lines([event])
