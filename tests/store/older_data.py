"""The laws of restored stores where a server of the test's own is set back to the data that it had."""

import asyncio
from typing import Any, Protocol

import pytest

from rehydrate.testing.conformance.restores import RestoreLaws


class Server(Protocol):
    def fresh_url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def save_data(self) -> Any: ...
    def restore_data(self, saved: Any) -> None: ...


class OnOlderData(RestoreLaws):
    """Restored as people do it who save the folder: the server is stopped, and started again on older data.

    The fixture `server` is the backend's.
    """

    patience = 5.0

    @pytest.fixture
    def url(self, server: Server) -> str:
        self._server = server
        return server.fresh_url()

    async def copy(self, url: str) -> Any:
        return await asyncio.to_thread(self._copy)

    async def restore(self, url: str, copied: Any) -> None:
        await asyncio.to_thread(self._restore, copied)

    def _copy(self) -> Any:
        self._server.stop()
        copied = self._server.save_data()
        self._server.start()
        return copied

    def _restore(self, copied: Any) -> None:
        self._server.stop()
        self._server.restore_data(copied)
        self._server.start()
