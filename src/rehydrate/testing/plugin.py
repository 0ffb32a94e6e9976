"""What pytest gets from Rehydrate by itself: the `fake_clock` fixture, markers, readable assertions in the kit.

Loaded into every pytest run of whoever has Rehydrate installed, so it imports nothing before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rehydrate.testing.clock import FakeClock

pytest.register_assert_rewrite("rehydrate.testing.conformance")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "processes: a law of the conformance kit that starts, stops and kills processes of its own"
    )


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it: `await fake_clock.advance(30)`."""
    from rehydrate.testing.clock import FakeClock

    return FakeClock()
