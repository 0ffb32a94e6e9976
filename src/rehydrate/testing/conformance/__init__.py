"""The laws that every store keeps, as tests that a backend inherits.

```python
class TestMyStore(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"mystore:///{tmp_path}/events"
```

The store is named by a URL so that several processes can open it, and each test gets a fresh one. A law is one test
and its name says what holds. A law that does not apply, because the store declares in its `capabilities` that it
lacks something, is shown as skipped with the name of that capability. The laws need pytest and pytest-asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehydrate.testing.conformance.consumers import ConsumerConformance as ConsumerConformance
    from rehydrate.testing.conformance.store import StoreConformance as StoreConformance

__all__ = ["ConsumerConformance", "StoreConformance"]


def __getattr__(name: str) -> object:
    # Not imported before it is asked for: the processes that the laws start need neither the laws nor pytest.
    if name == "StoreConformance":
        from rehydrate.testing.conformance.store import StoreConformance

        return StoreConformance
    if name == "ConsumerConformance":
        from rehydrate.testing.conformance.consumers import ConsumerConformance

        return ConsumerConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
