"""The laws of consumers, on each store."""

from typing import ClassVar

import pytest

from rehydrate.testing.conformance import ConsumerConformance
from rehydrate.testing.conformance.consumers import ProjectionProcessLaws
from rehydrate.testing.conformance.process_managers import ProcessManagerLaws
from tests.store.test_memory import OnSharedMemory
from tests.store.test_postgres import OnPostgres
from tests.store.test_sqlite import OnSqlite


class InSteps(ConsumerConformance):
    """Processes are killed at some of their writes, which are others on each store; `Longer` kills at all of them."""

    stride: ClassVar[int] = 9


class TestMemory(ConsumerConformance):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class TestSharedMemory(OnSharedMemory, InSteps):
    pass


class TestSqlite(OnSqlite, InSteps):
    stride = 7


class TestPostgres(OnPostgres, InSteps):
    stride = 8


class TestMongodb(InSteps):
    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return mongodb_url


class TestNats(InSteps):
    patience = 2.0
    stride = 10

    @pytest.fixture
    def url(self, nats_url: str) -> str:
        return nats_url


class Longer(ProjectionProcessLaws, ProcessManagerLaws):
    """The laws of projectors that are killed and paused, again and again; and of process managers, at each write."""

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
