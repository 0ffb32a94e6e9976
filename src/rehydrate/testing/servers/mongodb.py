"""MongoDB for tests: a replica set, of one member or of several, on free ports of 127.0.0.1."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rehydrate.testing.servers.databases import fresh_database, mongo_client
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import find_mongod
from rehydrate.testing.servers.handles import OneServer, ServersTogether
from rehydrate.testing.servers.process import ServerProcess, start_on_free_port, wait_until

REPLICA_SET: Final = "rehydrate"
_ELECTION_TIMEOUT = 2_000
"""Milliseconds: of a replica set of several, whose primary may be killed."""
_JOURNAL: Final = "log=(file_max=32MB,prealloc=false)"
"""In small files, made when they are needed: 30 MB rather than 300 for each member, and as durable."""


class MongoMember(OneServer):
    """One `mongod` of a replica set."""

    def __init__(self, folder: ServerFolder, *, parameters: Mapping[str, str]) -> None:
        self.port = 0
        self._folder = folder
        self._program = folder.runnable(find_mongod()).folder / "mongod"
        self._data = folder.new("mongodb")
        self._parameters = {"diagnosticDataCollectionEnabled": "false", **parameters}
        self._log = folder.new("mongodb-log") / "log"
        self._process = ServerProcess(
            folder.watch,
            folder.account,
            log=self._log,
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
        )

    @property
    def host(self) -> str:
        """As the replica set knows it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """This member alone."""
        return _url_of(self.port)

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it answers."""
        self._start(self.port)

    def start_first(self) -> None:
        """Start it on a free port."""
        self.port = start_on_free_port(self._start, self._process)

    def discard(self) -> None:
        """End it, never to be started again."""
        self._process.end()
        self._folder.remove(self._data, self._log.parent)

    def _start(self, port: int) -> None:
        parameters = [
            part for name, value in self._parameters.items() for part in ("--setParameter", f"{name}={value}")
        ]
        self._process.start(
            [
                self._program,
                *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
                *("--dbpath", self._data, "--replSet", REPLICA_SET),
                *("--wiredTigerCacheSizeGB", "1", "--networkMessageCompressors", "disabled"),
                *("--wiredTigerEngineConfigString", _JOURNAL),
                *parameters,
            ],
            is_ready=lambda: _hello(port) is not None,
        )

    def hello(self) -> dict[str, Any] | None:
        """What it says of itself, or None while it does not answer."""
        return _hello(self.port)

    def save_data(self) -> Path:
        """A copy of its data, taken while it is stopped."""
        self._is_stopped()
        return self._folder.copy(self._data, "mongodb-saved")

    def restore_data(self, saved: Path) -> None:
        """Put such a copy in the place of its data while it is stopped."""
        self._is_stopped()
        self._folder.remove(self._data)
        self._data = self._folder.copy(saved, "mongodb")


class MongoServer(ServersTogether[MongoMember]):
    """A replica set of yours alone: stop it, kill it or one of its members, put older data below it.

    Each call waits until it is done. In a coroutine that is not to stand still meanwhile, call it with `asyncio.to_thread`.
    """

    def __init__(
        self, folder: ServerFolder, members: int = 1, *, parameters: Mapping[str, str] | None = None
    ) -> None:
        self._all = self.members = [MongoMember(folder, parameters=parameters or {}) for _ in range(members)]

    @property
    def url(self) -> str:
        hosts = ",".join(member.host for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def fresh_url(self) -> str:
        """A URL of a database that does not exist yet: its first write makes it."""
        return fresh_database(self.url)

    def start_first(self) -> None:
        """Start the members and make them a replica set, with a primary."""
        for member in self.members:
            member.start_first()
        config: dict[str, Any] = {
            "_id": REPLICA_SET,
            "members": [{"_id": n, "host": member.host} for n, member in enumerate(self.members)],
        }
        if len(self.members) > 1:
            config["settings"] = {"electionTimeoutMillis": _ELECTION_TIMEOUT}
        with mongo_client(self.members[0].url) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def _wait_until_usable(self) -> None:
        self.primary()

    def primary(self) -> MongoMember:
        """The member that takes writes; waits for an election."""
        found: list[MongoMember] = []

        def is_elected() -> bool:
            running = [member for member in self.members if member.runs]
            found[:] = [member for member in running if (member.hello() or {}).get("isWritablePrimary")]
            return len(found) == 1

        wait_until(is_elected)
        return found[0]


def _hello(port: int) -> dict[str, Any] | None:
    from pymongo.errors import PyMongoError

    with mongo_client(_url_of(port), patience=200) as client:
        try:
            return client.admin.command("hello")
        except PyMongoError:
            return None


def _url_of(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"
