"""The database servers that rows are measured on: started once for a run, or your own.

A measurement runs in a process of its own, and finds the server by the variable that the tests use, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from enum import Enum
from typing import Final, assert_never

from bench.sample import MeasurementError
from rehydrate.testing.servers import ServerRoom, database_on

_KNOWN_TO_SYNC: Final = "REHYDRATE_BENCH_KNOWN_TO_SYNC"
"""Set where a run has started the servers of NATS itself."""


class Server(Enum):
    """A kind of server; its value is the variable that names one.

    They are written out, for the plugin that knows them takes pytest with it, and every measurement would wait for that.
    """

    POSTGRES = "REHYDRATE_TEST_POSTGRES_URL"
    MONGODB = "REHYDRATE_TEST_MONGODB_URL"
    NATS = "REHYDRATE_TEST_NATS_URL"
    """Three nodes, each of which writes to the disk before it acknowledges."""

    @contextmanager
    def database(self) -> Generator[str]:
        """The URL of a new database, which is dropped afterwards."""
        server = os.environ.get(self.value)
        if server is None:
            raise MeasurementError(f"{self.value} names no server")
        with database_on(server) as url:
            yield url


@contextmanager
def running(servers: Iterable[Server]) -> Generator[None]:
    """Start those that are asked for and not named by their variable, and stop them at the end of `with`."""
    missing = [server for server in set(servers) if server.value not in os.environ]
    with ServerRoom() as room:
        for server in missing:
            os.environ[server.value] = _start(room, server)
        if Server.NATS in missing:
            os.environ[_KNOWN_TO_SYNC] = "yes"
        try:
            yield
        finally:
            for server in missing:
                del os.environ[server.value]
            os.environ.pop(_KNOWN_TO_SYNC, None)


def trust_own_servers() -> None:
    """Each measurement would be told that NATS does not say whether it writes to the disk, which those of the run do."""
    if _KNOWN_TO_SYNC in os.environ:
        logging.getLogger("rehydrate.store.nats.durability").setLevel(logging.ERROR)


def _start(room: ServerRoom, server: Server) -> str:
    match server:
        case Server.POSTGRES:
            # As much memory as a small server has; all that durability rests on stays as it is.
            return room.start_postgres(settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}).url
        case Server.MONGODB:
            return room.start_mongodb().url
        case Server.NATS:
            return room.start_nats(3).url
        case _:
            assert_never(server)
