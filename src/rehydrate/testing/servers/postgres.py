"""PostgreSQL for tests: a server of its own data, with a password, on a free port of 127.0.0.1."""

from __future__ import annotations

import ctypes
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rehydrate.testing.servers.databases import fresh_database
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import find_postgres
from rehydrate.testing.servers.handles import OneServer
from rehydrate.testing.servers.process import ServerProcess, start_on_free_port

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Nothing is left outside the data folder, also after a kill.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "32MB",
    # One second rather than sixty until a standby that went away is missed.
    "wal_sender_timeout": "1s",
    "wal_receiver_timeout": "1s",
    "wal_retrieve_retry_interval": "100ms",
}
"""`fsync` and all that durability rests on stay as PostgreSQL has them: on."""
_REMOVE: Final = 0
"""`IPC_RMID`."""


class PostgresTemplate:
    """A data folder fresh from `initdb`, made once for each version, and copied for each server."""

    def __init__(self, folder: ServerFolder, version: int) -> None:
        self.version = version
        self.password = secrets.token_urlsafe(12)
        self.programs = folder.runnable(find_postgres(version))
        self._folder = folder
        self._data = folder.new(f"postgres-{version}-template")
        password = folder.write(folder.path / f"postgres-{version}-password", self.password)
        folder.account.run(
            self.programs.folder / "initdb",
            *("--pgdata", self._data),
            *("--username", "postgres", "--auth", "scram-sha-256", "--pwfile", password),
            *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            # The password is random: hashing it again and again is half of what a connection costs.
            *("--set", "scram_iterations=1"),
            cwd=folder.path,
        )

    def copy(self) -> Path:
        return self._folder.copy(self._data, f"postgres-{self.version}")


class PostgresServer(OneServer):
    """A server of yours alone: stop it, kill it, let it stand still, put older data below it.

    Each call waits until it is done. In a coroutine that is not to stand still meanwhile, call it with `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: ServerFolder,
        template: PostgresTemplate,
        *,
        settings: Mapping[str, str] | None = None,
        data: Path | None = None,
    ) -> None:
        self.version = template.version
        self.port = 0
        self.standbys: list[PostgresServer] = []
        self._folder = folder
        self._template = template
        self._data = data or template.copy()
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(
                f"{name} = '{value}'\n" for name, value in (_SETTINGS | dict(settings or {})).items()
            )
        self._log = folder.new(f"postgres-{self.version}-log") / "log"
        self._process = ServerProcess(
            folder.watch,
            folder.account,
            log=self._log,
            stop_signal=signal.SIGINT,
            end_signal=signal.SIGQUIT,
        )

    @property
    def url(self) -> str:
        """The database `postgres`, as the superuser."""
        return f"postgresql://postgres:{self._template.password}@127.0.0.1:{self.port}/postgres"

    def fresh_url(self) -> str:
        """A URL of a new, empty database."""
        return fresh_database(self.url)

    def start(self) -> None:
        """Start it, on the same port and data as before; `ServerFailedError` shows the end of its log."""
        self._start(self.port)

    def start_first(self) -> None:
        """Start it on a free port."""
        self.port = start_on_free_port(self._start, self._process)

    def discard(self) -> None:
        """End it, never to be started again, and leave nothing of it outside of its folder."""
        for standby in self.standbys:
            standby.discard()
        self._process.end()
        pid_file = self._data / "postmaster.pid"
        if (
            pid_file.exists()
        ):  # it was killed, and could not remove its shared memory: a few bytes, but for ever
            number = int(pid_file.read_text("utf-8").splitlines()[6].split()[1])
            ctypes.CDLL(None).shmctl(number, _REMOVE, None)
        self._folder.remove(self._data, self._log.parent)

    def save_data(self) -> Path:
        """A copy of its data, taken while it is stopped."""
        self._is_stopped()
        return self._folder.copy(self._data, f"postgres-{self.version}-saved")

    def restore_data(self, saved: Path) -> None:
        """Put such a copy in the place of its data while it is stopped: the database goes back in time."""
        self._is_stopped()
        self._folder.remove(self._data)
        self._data = self._folder.copy(saved, f"postgres-{self.version}")

    def start_standby(self) -> PostgresServer:
        """Start a hot standby, which follows by streaming replication and answers reads."""
        data = self._folder.new(f"postgres-{self.version}-standby")
        self._folder.account.run(
            self._template.programs.folder / "pg_basebackup",
            *("--pgdata", data, "--dbname", self.url),
            *("--write-recovery-conf", "--checkpoint", "fast", "--no-sync"),
            cwd=self._folder.path,
        )
        standby = PostgresServer(self._folder, self._template, data=data)
        self.standbys.append(standby)
        standby.start_first()
        return standby

    def promote(self) -> None:
        """Make a standby a primary, as an operator does when the primary is lost."""
        self._folder.account.run(
            self._template.programs.folder / "pg_ctl",
            *("promote", "--wait", "--pgdata", self._data),
            cwd=self._folder.path,
        )

    def _start(self, port: int) -> None:
        self._process.start(
            [self._template.programs.folder / "postgres", "-D", self._data, "-p", str(port)],
            is_ready=self._is_ready,
        )

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() in {"ready", "standby"}
