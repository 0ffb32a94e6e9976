"""What becomes of an event that a consumer fails at, as a value."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from rehydrate.domain.policy import Park, Retry
from rehydrate.errors import ConfigurationError


@pytest.mark.parametrize(
    ("policy", "given", "told"),
    [
        (Park, {"most": 0}, "Park(most=0): it must be at least 1"),
        (Park, {"most": None}, "Park(most=None): it must be at least 1, and an int"),
        (Retry, {"times": 1.5}, "Retry(times=1.5): it must be at least 1, and an int"),
        (Retry, {"first": 0}, "Retry: first=0: it must be more than 0 seconds"),
        (Retry, {"most": timedelta(minutes=1)}, "it must be seconds, as a number; write 60"),
        (Retry, {"then": Retry()}, "write Stop(), Skip() or Park()"),
    ],
)
def test_a_policy_with_what_cannot_work_says_what_to_write(
    policy: Any, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        policy(**given)
