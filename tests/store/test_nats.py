"""The laws of a store, on NATS JetStream."""

import itertools
import os

import pytest

from rehydrate.testing.conformance import StoreConformance

_numbers = itertools.count(1)


class TestNats(StoreConformance):
    @pytest.fixture
    def url(self) -> str:
        return f"nats://127.0.0.1:14222/t{os.getpid()}-{next(_numbers)}"
