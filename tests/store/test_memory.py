"""The laws of a store, on memory: private to one opening, and shared by name."""

import copy
from typing import Any

import pytest

from rehydrate.store import memory
from rehydrate.testing.conformance import StoreConformance


class TestMemory(StoreConformance):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class OnSharedMemory:
    """A store that several have open in one process; it is copied and restored by reaching inside."""

    @pytest.fixture
    def url(self) -> str:
        return "memory://bank"

    async def copy(self, url: str) -> dict[str, Any]:
        names = ("log", "streams", "snapshots", "checkpoints", "views")
        return {name: copy.deepcopy(getattr(_kept(), name)) for name in names}

    async def restore(self, url: str, copied: dict[str, Any]) -> None:
        for name, value in copied.items():
            setattr(_kept(), name, copy.deepcopy(value))


class TestSharedMemory(OnSharedMemory, StoreConformance):
    pass


def _kept() -> memory.Memory:
    named: dict[str, memory.Memory] = vars(memory)["_named"]
    return named["bank"]
