"""The laws of a store, on NATS JetStream: on one node, and on three."""

from collections.abc import Callable

import pytest

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.servers import NatsServer
from tests.store.older_data import OnOlderData


class OnNats:
    @pytest.fixture
    def url(self, nats_url: str) -> str:
        return nats_url


class TestNats(OnNats, StoreConformance):
    pass


class TestThreeNats(StoreConformance):
    @pytest.fixture
    def url(self, three_nats_url: str) -> str:
        return three_nats_url


# Each law has a server of its own, which is stopped, copied and started a few times.
@pytest.mark.slow
class TestNatsOnOlderData(OnOlderData):
    @pytest.fixture
    def server(self, start_nats: Callable[..., NatsServer]) -> NatsServer:
        return start_nats()
