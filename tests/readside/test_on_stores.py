"""The laws of consumers, on each store."""

import pytest

from rehydrate.testing.conformance import ConsumerConformance
from rehydrate.testing.conformance.consumers import ProjectionProcessLaws
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


class TestNats(ConsumerConformance):
    patience = 2.0

    @pytest.fixture
    def url(self, nats_url: str) -> str:
        return nats_url


class Longer(ProjectionProcessLaws):
    """The laws of projectors that are killed and paused, again and again."""

    rounds = 10
    patience = 10.0


@pytest.mark.slow
class TestLongerOnSqlite(OnSqlite, Longer):
    pass


@pytest.mark.slow
class TestLongerOnPostgres(OnPostgres, Longer):
    pass


@pytest.mark.slow
class TestLongerOnMongodb(Longer):
    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return mongodb_url


@pytest.mark.slow
class TestLongerOnNats(Longer):
    @pytest.fixture
    def url(self, nats_url: str) -> str:
        return nats_url
