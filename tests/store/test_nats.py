"""The laws of a store, on NATS JetStream: on one node, and on three."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.conformance.restores import RestoreLaws
from rehydrate.testing.servers import NatsServer


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
class TestNatsOnOlderData(RestoreLaws):
    """Restored as people do it who save the folder: the server is stopped, and started again on older data."""

    patience = 5.0

    @pytest.fixture
    def server(self, start_nats: Callable[..., NatsServer]) -> NatsServer:
        return start_nats()

    @pytest.fixture
    def url(self, server: NatsServer) -> str:
        self._server = server
        return server.fresh_url()

    async def copy(self, url: str) -> Sequence[Path]:
        return await asyncio.to_thread(self._copy)

    async def restore(self, url: str, copied: Sequence[Path]) -> None:
        await asyncio.to_thread(self._restore, copied)

    def _copy(self) -> Sequence[Path]:
        self._server.stop()
        copied = self._server.save_data()
        self._server.start()
        return copied

    def _restore(self, copied: Sequence[Path]) -> None:
        self._server.stop()
        self._server.restore_data(copied)
        self._server.start()
