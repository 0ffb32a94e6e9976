"""The laws of a store, on MongoDB."""

import pytest

from rehydrate.testing.conformance import StoreConformance


class TestMongodb(StoreConformance):
    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return mongodb_url
