"""Where the servers of a test run are started, and from where all of them go away together."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rehydrate.nats.configuration import TlsFiles
from rehydrate.testing.servers.databases import database_on
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import POSTGRES_VERSIONS
from rehydrate.testing.servers.mongodb import MongoServer
from rehydrate.testing.servers.nats import NatsServer
from rehydrate.testing.servers.postgres import PostgresServer, PostgresTemplate
from rehydrate.testing.servers.spares import SpareDatabases

_NEWEST = POSTGRES_VERSIONS[0]


class ServerRoom:
    """Starts servers; at the end of `with` none of them is left, and nothing of their data.

    Also when the process that holds it is killed: see `watcher.py`.
    """

    def __init__(self) -> None:
        self._templates: dict[int, PostgresTemplate] = {}
        self._servers: list[PostgresServer | MongoServer | NatsServer] = []
        self._shared_postgres: dict[int, PostgresServer] = {}
        self._spares: dict[int, SpareDatabases] = {}
        self._shared_mongodb: list[MongoServer] = []
        self._shared_nats: dict[int, NatsServer] = {}

    @cached_property
    def _folder(self) -> ServerFolder:
        return ServerFolder()

    @property
    def folder(self) -> Path:
        """Where the servers' data and logs are."""
        return self._folder.path

    @property
    def watcher(self) -> int:
        """The id of the process that ends the servers if this one is killed."""
        return self._folder.watch.pid

    def start_postgres(
        self, version: int = _NEWEST, *, settings: Mapping[str, str] | None = None
    ) -> PostgresServer:
        """Start a PostgreSQL; `ServerNotFoundError` if there is none of that version on this machine.

        `settings` are lines of `postgresql.conf`.
        """
        if version not in self._templates:
            self._templates[version] = PostgresTemplate(self._folder, version)
        server = PostgresServer(self._folder, self._templates[version], settings=settings)
        self._servers.append(server)
        server.start_first()
        return server

    def start_mongodb(self, members: int = 1, *, parameters: Mapping[str, str] | None = None) -> MongoServer:
        """Start a replica set of MongoDB; `ServerNotFoundError` if there is no `mongod` on this machine.

        `parameters` are server parameters, as `--setParameter` takes them.
        """
        server = MongoServer(self._folder, members, parameters=parameters)
        self._servers.append(server)
        server.start_first()
        return server

    def start_nats(
        self,
        nodes: int = 1,
        *,
        token: str | None = "test",
        tls: TlsFiles | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> NatsServer:
        """Start a NATS with JetStream; `ServerNotFoundError` if there is no `nats-server` on this machine.

        `settings` are those of its configuration file, above what Rehydrate sets: `{"max_payload": 1_000_000}`. With
        None a setting is left out.
        """
        server = NatsServer(self._folder, nodes, token=token, tls=tls, settings=settings)
        self._servers.append(server)
        server.start_first()
        return server

    def shared_postgres(self, version: int = _NEWEST) -> PostgresServer:
        """The PostgreSQL that those share who only want a database on it; started when it is first asked for."""
        if version not in self._shared_postgres:
            self._shared_postgres[version] = self.start_postgres(version)
        return self._shared_postgres[version]

    def shared_mongodb(self) -> MongoServer:
        """The MongoDB that those share who only want a database on it; started when it is first asked for."""
        if not self._shared_mongodb:
            self._shared_mongodb.append(self.start_mongodb())
        return self._shared_mongodb[0]

    def shared_nats(self, nodes: int = 1) -> NatsServer:
        """The NATS of so many nodes that those share who only want to store on it; started when it is first asked for."""
        if nodes not in self._shared_nats:
            self._shared_nats[nodes] = self.start_nats(nodes)
        return self._shared_nats[nodes]

    @contextmanager
    def postgres_database(self, version: int = _NEWEST) -> Generator[str]:
        """The URL of an empty database on the shared PostgreSQL, until the end of `with`."""
        if version not in self._spares:
            self._spares[version] = SpareDatabases(self.shared_postgres(version))
        url = self._spares[version].take()
        try:
            yield url
        finally:
            self._spares[version].give_back(url)

    @contextmanager
    def mongodb_database(self) -> Generator[str]:
        """The URL of an empty database on the shared MongoDB, until the end of `with`."""
        with database_on(self.shared_mongodb().url) as url:
            yield url

    @contextmanager
    def nats_database(self, nodes: int = 1) -> Generator[str]:
        """A URL of the shared NATS with a name that nothing is stored under; at the end of `with` nothing is again."""
        with database_on(self.shared_nats(nodes).url) as url:
            yield url

    def discard(self, server: PostgresServer | MongoServer | NatsServer) -> None:
        """End a server that is not needed any more."""
        server.discard()
        self._servers.remove(server)

    def close(self) -> None:
        """End all servers, and remove their data. Closing twice is fine."""
        for server in self._servers:
            server.discard()
        self._servers.clear()
        if folder := self.__dict__.pop("_folder", None):
            folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
