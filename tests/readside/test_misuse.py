"""Who asks for views with something that cannot be meant is told what to write."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from rehydrate import CommandResult, ConfigurationError, InvalidIdError
from tests.readside.ledger import app, balances


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"at_least": CommandResult(1, 1, ())}, "write at_least=result.position"),
        ({"at_least": "1"}, "at_least is '1': it must be a position, and so an int"),
        ({"at_least": 1, "timeout": timedelta(seconds=2)}, "it must be seconds, as a number; write 2"),
    ],
)
async def test_what_is_no_position_or_no_time_says_what_to_write(given: dict[str, Any], told: str) -> None:
    async with app.open("memory://") as bank:
        for asked in (bank.view(balances, "ada", **given), bank.views(balances, **given)):
            with pytest.raises(ConfigurationError, match=re.escape(told)):
                await asked


async def test_a_page_of_views_says_what_is_no_number_and_no_key() -> None:
    nothing: Any = None
    async with app.open("memory://") as bank:
        with pytest.raises(ConfigurationError, match="limit is None: it must be a whole number"):
            await bank.views(balances, limit=nothing)
        for key in ({"after": nothing}, {"prefix": nothing}):
            with pytest.raises(InvalidIdError):
                await bank.views(balances, **key)
