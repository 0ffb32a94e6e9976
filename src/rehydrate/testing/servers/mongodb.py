"""MongoDB for tests: a replica set, of one member or of several, on free ports of 127.0.0.1."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rehydrate.testing.servers.databases import fresh_database, mongo_client
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import find_mongod
from rehydrate.testing.servers.process import ServerProcess, start_on_free_port, wait_until

REPLICA_SET: Final = "rehydrate"
_ELECTION_TIMEOUT = 2_000
"""Milliseconds: of a replica set of several, whose primary may be killed."""
_JOURNAL: Final = "log=(file_max=32MB,prealloc=false)"
"""In small files, made when they are needed: 30 MB rather than 300 for each member, and as durable."""


class MongoMember:
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

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.runs

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it answers."""
        self._start(self.port)

    def start_first(self) -> None:
        """Start it on a free port."""
        self.port = start_on_free_port(self._start, self._process)

    def stop(self) -> None:
        """Shut it down in good order; a primary steps down first."""
        self._process.stop()

    def kill(self) -> None:
        """Kill it (`kill -9`), in the middle of whatever it does."""
        self._process.kill()

    def discard(self) -> None:
        """End it, never to be started again."""
        self._process.end()
        self._folder.remove(self._data, self._log.parent)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP): connections stay open, and nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

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

    def _is_stopped(self) -> None:
        if self._process.runs:
            raise RuntimeError("stop the server first: a copy of data that is written to is none")


class MongoServer:
    """A replica set of yours alone: stop it, kill it or one of its members, put older data below it.

    Each call waits until it is done. In a coroutine that is not to stand still meanwhile, call it with `asyncio.to_thread`.
    """

    def __init__(
        self, folder: ServerFolder, members: int = 1, *, parameters: Mapping[str, str] | None = None
    ) -> None:
        self.members: Sequence[MongoMember] = [
            MongoMember(folder, parameters=parameters or {}) for _ in range(members)
        ]

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

    def start(self) -> None:
        """Start the members that do not run, on the same ports and data, and wait for a primary."""
        for member in self.members:
            if not member.runs:
                member.start()
        self.primary()

    def stop(self) -> None:
        """Shut all members down in good order."""
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """Kill all members (`kill -9`)."""
        for member in self.members:
            member.kill()

    def discard(self) -> None:
        """End all members, never to be started again."""
        for member in self.members:
            member.discard()

    def restart(self) -> None:
        """Stop what runs, and start all members on the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let all members stand still (SIGSTOP)."""
        for member in self.members:
            member.pause()

    def resume(self) -> None:
        for member in self.members:
            member.resume()

    def primary(self) -> MongoMember:
        """The member that takes writes; waits for an election."""
        found: list[MongoMember] = []

        def is_elected() -> bool:
            running = [member for member in self.members if member.runs]
            found[:] = [member for member in running if (member.hello() or {}).get("isWritablePrimary")]
            return len(found) == 1

        wait_until(is_elected)
        return found[0]

    def save_data(self) -> Sequence[Path]:
        """Copies of the data of all members, taken while they are stopped."""
        return [member.save_data() for member in self.members]

    def restore_data(self, saved: Sequence[Path]) -> None:
        """Put such copies in the place of the data while all are stopped: the database goes back in time."""
        for member, its_data in zip(self.members, saved, strict=True):
            member.restore_data(its_data)


def _hello(port: int) -> dict[str, Any] | None:
    from pymongo.errors import PyMongoError

    with mongo_client(_url_of(port), patience=200) as client:
        try:
            return client.admin.command("hello")
        except PyMongoError:
            return None


def _url_of(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"
