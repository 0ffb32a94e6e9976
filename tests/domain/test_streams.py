"""Names of streams, ids, and what cannot be one."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.domain.streams import check_id, check_stream, first_beyond, split_stream_name, stream_name
from rehydrate.errors import InvalidIdError

_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True)
_ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@given(_names, _ids)
def test_a_stream_name_is_taken_apart_again(aggregate: str, id: str) -> None:
    check_id(id)
    stream = stream_name(aggregate, id)
    check_stream(stream)
    assert split_stream_name(stream) == (aggregate, id)


@pytest.mark.parametrize("text", ["", "account", "-1", "account-", "-"])
def test_text_that_names_no_stream_is_refused(text: str) -> None:
    with pytest.raises(InvalidIdError, match="is not of the form"):
        split_stream_name(text)


@pytest.mark.parametrize("id", ["a", "é" * 256, "x" * 512, "a b/c\n", "-", "\x01"])
def test_an_id_is_any_text_of_1_to_512_bytes(id: str) -> None:
    check_id(id)


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("", "it is empty"),
        ("a\0b", "it holds U+0000"),
        ("\ud800", "it holds a lone surrogate"),
        ("x" * 513, "it has 513 bytes as UTF-8, and 512 are allowed"),
        ("é" * 257, "it has 514 bytes"),
        (7, "it is of type int, and must be a str: write str(...)"),
        (UUID(int=7), "it is of type UUID, and must be a str: write str(...)"),
        (b"a", "it is of type bytes"),
        (None, "it is of type NoneType"),
    ],
)
def test_another_id_is_refused(id: str, reason: str) -> None:
    with pytest.raises(InvalidIdError) as refused:
        check_id(id, "command id")
    assert str(refused.value).startswith("this command id cannot be used: ")
    assert refused.value.reason.startswith(reason)
    assert refused.value.kind == "command id"


def test_an_id_that_cannot_be_used_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="it is empty"):
        check_id("")


def test_the_longest_name_with_the_longest_id_is_a_stream() -> None:
    check_stream(stream_name("a" * 128, "x" * 512))
    with pytest.raises(InvalidIdError):
        check_stream("x" * 642)


_texts = st.text(st.sampled_from("ab\ud7ff\ue000\U0010ffff"), max_size=4)


@given(_texts, _texts)
def test_what_begins_with_a_prefix_is_just_what_lies_between_it_and_the_first_beyond(
    prefix: str, text: str
) -> None:
    beyond = first_beyond(prefix)
    beyond.encode()  # It is text.
    assert text.startswith(prefix) == (prefix <= text and (not beyond or text < beyond))
