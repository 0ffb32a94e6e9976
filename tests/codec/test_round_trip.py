"""Whatever the codec takes when it is made comes back as it was, or is not stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrate.codec import JsonCodec, JsonValueCodec, difference
from tests.codec.material import (
    CLASSES,
    IN_PYDANTIC,
    SCALARS,
    Case,
    as_attrs,
    as_dataclass,
    as_pydantic,
    as_struct,
    came_back,
    cases,
    fields_of,
)

Make = Callable[[tuple[Case, ...]], type]


@pytest.mark.parametrize("make", [as_dataclass, as_struct, as_attrs])
def test_a_generated_event_comes_back_as_it_was(make: Make) -> None:
    @given(fields_of(SCALARS + CLASSES), st.data())
    @settings(max_examples=150, deadline=None)
    def comes_back(fields: tuple[Case, ...], data: st.DataObject) -> None:
        round_trip(make(fields), fields, data)

    comes_back()


@given(fields_of(IN_PYDANTIC), st.data())
@settings(max_examples=150, deadline=None)
def test_a_generated_pydantic_event_comes_back_as_it_was(
    fields: tuple[Case, ...], data: st.DataObject
) -> None:
    round_trip(as_pydantic(fields), fields, data)


def round_trip(event_class: Any, fields: tuple[Case, ...], data: st.DataObject) -> None:
    codec = JsonCodec(event_class)
    values = [data.draw(case.values) for case in fields]
    event = event_class(**{f"field_{index}": value for index, value in enumerate(values)})
    back = codec.decoders["Happened"](codec.encode(event))
    assert came_back(event, back), (event, back)
    assert difference(event, back) is None
    assert codec.digest(event) == codec.digest(back)


@given(cases(SCALARS + CLASSES), st.data())
@settings(max_examples=150, deadline=None)
def test_a_generated_state_comes_back_as_it_was(case: Case, data: st.DataObject) -> None:
    codec = JsonValueCodec(case.annotation)
    state = data.draw(case.values)
    back = codec.decode(codec.encode(state))
    assert came_back(state, back), (state, back)
    assert difference(state, back) is None
