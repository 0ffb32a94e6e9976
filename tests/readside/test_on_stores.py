"""The laws of consumers, on each store."""

import pytest

from rehydrate.testing.conformance import ConsumerConformance
from tests.store.test_memory import OnSharedMemory
from tests.store.test_postgres import OnPostgres
from tests.store.test_sqlite import OnSqlite


class TestMemory(ConsumerConformance):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class TestSharedMemory(OnSharedMemory, ConsumerConformance):
    pass


class TestSqlite(OnSqlite, ConsumerConformance):
    pass


class TestPostgres(OnPostgres, ConsumerConformance):
    pass


class TestMongodb(ConsumerConformance):
    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return mongodb_url
