"""What comes back with an event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rehydrate.domain.envelope import moment

_LAST = 253_402_300_799_999_999


@pytest.mark.parametrize(
    ("microseconds", "is_shown_as"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (_LAST, datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
        (_LAST + 1, datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
        (2**63 - 1, datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
        (-(2**63), datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_any_stored_time_is_a_datetime_the_nearest_where_there_is_none(
    microseconds: int, is_shown_as: datetime
) -> None:
    assert moment(microseconds) == is_shown_as
