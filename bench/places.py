"""Where the stores lie that are measured beside each other."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from bench.servers import Server


class Place(Enum):
    """A kind of store; its value is how it is called."""

    MEMORY = "memory"
    SQLITE = "SQLite"
    POSTGRES = "PostgreSQL"
    MONGODB = "MongoDB"
    NATS = "NATS"

    @property
    def server(self) -> Server | None:
        """What has to run for it."""
        return {
            Place.MEMORY: None,
            Place.SQLITE: None,
            Place.POSTGRES: Server.POSTGRES,
            Place.MONGODB: Server.MONGODB,
            Place.NATS: Server.NATS,
        }[self]

    @contextmanager
    def url(self, folder: Path) -> Generator[str]:
        """Of a new store, which is gone afterwards."""
        if self is Place.MEMORY:
            yield "memory://"
        elif self.server is None:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                yield f"sqlite:///{Path(own) / 'bank.db'}"
        else:
            with self.server.database() as url:
                yield url
