"""A NATS server as a child of this process, which ends with it however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from rehydrate.errors import ConfigurationError, RehydrateError
from rehydrate.nats import monitor
from rehydrate.nats.log import ServerLog, reason_of_end
from rehydrate.nats.program import find_nats_server

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_STOP_LIMIT: Final = 15.0
"""Seconds until a server that was told to end has ended: longer than its keeper is patient with it."""
_PASSED_ON: Final = ("PATH", "TMPDIR", "SystemRoot")
"""What the server sees of our environment: nothing that could configure it."""


class NodeFailedError(RehydrateError):
    """A node's server did not start, or not in time: nothing was stored. A retry helps once the cause is gone."""


class DataInUseError(NodeFailedError):
    """Another server works on the same data. It will end soon if `is_orphan`: whoever started it is gone, or it is ours."""

    def __init__(self, folder: Path, *, is_orphan: bool) -> None:
        super().__init__(f"another node works on {folder}: end it, or give this one a folder of its own")
        self.folder = folder
        self.is_orphan = is_orphan


class ServerFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of a server are."""

    configuration: Path
    log: Path
    output: Path
    """What it writes where it cannot write to its log."""
    data: Path
    """The folder in which it keeps one of each account."""
    lock: Path
    """Held as long as a server, or who watches over it, may touch the data."""
    ports: Path
    """The folder in which it says which ports it listens on."""


class _Ports(msgspec.Struct, frozen=True):
    monitoring: list[str] = []


class ServerChild:
    """One run of a server. It is started once, and ended once."""

    def __init__(self, files: ServerFiles, owner: str) -> None:
        """`owner` is the same for all that one node starts, and begins with the id of this process."""
        self.pid = 0
        self.code: int | None = None
        """What it ended with, as a `subprocess` says it."""
        self._files = files
        self._owner = owner
        self._keeper: asyncio.subprocess.Process | None = None
        self._ended = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._monitor_port = 0
        self._log = ServerLog(files.log)
        self._lines: list[str] = []

    async def start(self) -> None:
        """Start it, without waiting until it is ready.

        Raises:
            ConfigurationError: there is no `nats-server`.
            DataInUseError: another server works on the data.
        """
        program = server_program()
        for stale in self._files.ports.glob("*.ports"):
            stale.unlink()
        files = self._files
        self._keeper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_KEEPER), str(os.getpid()), self._owner),
            *map(str, (files.data, files.lock, files.output, program, "-c", files.configuration)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )
        try:
            said = await self._next()
            if said[0] == "busy":
                owner = said[1] if said[1:] else ""
                is_orphan = owner == self._owner or not _is_there(owner.partition("-")[0])
                raise DataInUseError(files.lock.parent, is_orphan=is_orphan)
            if said[0] != "started":
                raise NodeFailedError("the server could not be started: " + self._last_words())
            self.pid = int(said[1])
        except BaseException:
            await self.stop()
            raise
        self._listening = asyncio.ensure_future(self._listen())

    async def _next(self) -> list[str]:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        return (await self._keeper.stdout.readline()).decode().split() or [""]

    async def _listen(self) -> None:
        said = await self._next()
        assert self._keeper is not None
        await self._keeper.wait()
        if said[0] == "ended":
            self.code = int(said[1])
        elif sys.platform != "linux":
            # The keeper itself was killed, and here the server does not notice.
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._ended.set()

    @property
    def runs(self) -> bool:
        return self._listening is not None and not self._ended.is_set()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def stop(self) -> None:
        """End it in good order, so that it hands over what it leads; at once if that takes too long."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        if self._keeper.returncode is None:
            try:
                # Said aloud: the pipe does not close while a forked process holds it, too.
                self._keeper.stdin.write(b"stop\n")
                await self._keeper.stdin.drain()
            except ConnectionError:
                pass
        self._keeper.stdin.close()
        try:
            async with asyncio.timeout(_STOP_LIMIT):
                await self._keeper.wait()
        except TimeoutError:
            self._keeper.kill()
            await self._keeper.wait()
        if self._listening is not None:
            await self._listening

    def news(self) -> list[str]:
        """The lines that it has written to its log since the last call."""
        lines = self._log.more()
        self._lines = [*self._lines, *lines][-100:]
        return lines

    def why_it_ended(self) -> str:
        """In words, from its log and from how it ended."""
        self.news()
        if self.code is not None and self.code < 0:
            return f"it was ended by {signal.Signals(-self.code).name}"
        return self._last_words()

    def _last_words(self) -> str:
        try:
            output = self._files.output.read_text("utf-8", "replace").splitlines()
        except OSError:
            output = []
        return reason_of_end([*output, *self._lines])

    def monitor_port(self) -> int:
        """Where it answers questions on its health; 0 while it does not say."""
        if not self._monitor_port:
            path = self._files.ports / f"nats-server_{self.pid}.ports"
            try:
                said = msgspec.json.decode(path.read_bytes(), type=_Ports)
            except (OSError, msgspec.MsgspecError):
                return 0
            self._monitor_port = int(said.monitoring[0].rpartition(":")[2]) if said.monitoring else 0
        return self._monitor_port

    async def health(self, name: str) -> ServerHealth:
        """How it is now; `name` is the server's own."""
        port = self.monitor_port()
        return await asyncio.to_thread(_health, port, name) if port else ServerHealth()


def _is_there(pid: str) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself, all of it empty while it says nothing."""

    answers: bool = False
    error: str = ""
    """What it finds wrong with itself."""
    connected: frozenset[str] = frozenset()
    """The names of the others that it is connected with."""
    leader: str = ""
    """Who leads the cluster; empty where it stands alone, and while there is none."""
    behind: frozenset[str] = frozenset()
    """JetStream streams led here of which another has an old copy."""


_PATIENCE: Final = 2.0


def _health(port: int, name: str) -> ServerHealth:
    told = monitor.health(port, patience=_PATIENCE)
    if told is None:
        return ServerHealth()
    stored = monitor.jetstream(port, patience=_PATIENCE) or monitor.JetStream()
    routes = monitor.routing(port, patience=_PATIENCE) or monitor.Routing()
    return ServerHealth(
        answers=True,
        error=told.error,
        connected=frozenset(route.remote_name for route in routes.routes if route.remote_name),
        leader=stored.leaders()[""],
        behind=frozenset(
            stream.name
            for account in stored.account_details
            for stream in account.stream_detail
            if stream.cluster
            and stream.cluster.leader == name  # nobody else knows
            and not all(copy.current for copy in stream.cluster.replicas)
        ),
    )


def server_program() -> Path:
    """The program; raises `ConfigurationError` where there is none that can be run and watched over."""
    if os.name == "nt":
        raise ConfigurationError(
            "a node cannot run its server on Windows: start nats-server there yourself, and connect to it by its URL"
        )
    program = find_nats_server()
    if program is None:
        raise ConfigurationError(
            "there is no nats-server, neither beside this Python nor on the path: pip install 'rehydrate[nats]'"
        )
    return program
