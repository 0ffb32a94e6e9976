"""What the tests of the runtime share."""

import math

import pytest

from rehydrate.runtime import actor


@pytest.fixture(autouse=True)
def whole_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits goes out together, also where a busy machine lets its decisions take longer than a slice of work."""
    monkeypatch.setattr(actor, "WORK_SLICE", math.inf)
