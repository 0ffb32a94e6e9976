"""NATS for tests: one server with JetStream, or a cluster of them, on free ports of 127.0.0.1."""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rehydrate.nats.configuration import Routes, ServerConfiguration, TlsFiles, route_secret, written
from rehydrate.nats.endpoint import Endpoint
from rehydrate.nats.monitor import JetStream, health, jetstream
from rehydrate.testing.servers.databases import fresh_database
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import find_nats
from rehydrate.testing.servers.handles import OneServer, ServersTogether
from rehydrate.testing.servers.process import (
    TAKEN,
    TRIES,
    ServerFailedError,
    ServerProcess,
    free_port,
    wait_until,
)

_CLUSTER: Final = "test"
_PATIENCE = 5.0
"""Seconds that a server has to take a connection."""


class NatsNode(OneServer):
    """One `nats-server`, alone or of a cluster."""

    def __init__(self, folder: ServerFolder, name: str) -> None:
        self.name = name
        self.port = self.route_port = self.monitor_port = 0
        self.token: str | None = None
        self._folder = folder
        self._program = folder.runnable(find_nats()).folder / "nats-server"
        self._data = folder.new("nats")
        self._beside = folder.new("nats-log")
        self._configuration = self._beside / "nats.conf"
        self._process = ServerProcess(
            folder.watch,
            folder.account,
            log=self._beside / "log",
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
        )

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """This server alone."""
        return f"nats://{self.token}@{self.host}" if self.token else f"nats://{self.host}"

    def choose_ports(self) -> None:
        """Take other ports than before; it is started with them after it was configured."""
        self.port, self.route_port, self.monitor_port = free_port(), free_port(), free_port()

    def configure(
        self,
        *,
        token: str | None,
        tls: TlsFiles | None,
        others: Sequence[NatsNode],
        settings: Mapping[str, Any],
    ) -> None:
        """Write its configuration: that of an embedded node, with these settings of NATS above it."""
        self.token = token
        here = Endpoint("127.0.0.1", self.port)
        routes = Endpoint("127.0.0.1", self.route_port)
        configuration = ServerConfiguration(
            name=self.name,
            folder=self._data,
            listen=here,
            advertise=here,
            monitor_port=self.monitor_port,
            token=token,
            tls=tls,
            routes=Routes(
                cluster=_CLUSTER,
                listen=routes,
                advertise=routes,
                others=[Endpoint("127.0.0.1", other.route_port) for other in others],
                secret=route_secret(token),
            )
            if others
            else None,
        )
        self._configuration.unlink(missing_ok=True)
        self._folder.write(self._configuration, written(_merged(configuration.settings(), settings)))

    def start(self) -> None:
        """Start it, on the same ports and data as before, and wait until it takes connections."""
        self._process.start([self._program, "-c", self._configuration], is_ready=self._takes_connections)

    def is_healthy(self) -> bool:
        """Whether JetStream answers here, and all that is stored here has caught up."""
        told = health(self.monitor_port)
        return told is not None and told.status == "ok"

    def jetstream(self) -> JetStream:
        """What JetStream says of itself; nothing in particular while it does not answer."""
        return jetstream(self.monitor_port) or JetStream()

    def discard(self) -> None:
        """End it, never to be started again."""
        self._process.end()
        self._folder.remove(self._data, self._beside)

    def log(self) -> str:
        """The end of its log."""
        return self._process.log()

    def save_data(self) -> Path:
        """A copy of its data, taken while it is stopped."""
        self._is_stopped()
        return self._folder.copy(self._data, "nats-saved")

    def restore_data(self, saved: Path) -> None:
        """Put such a copy in the place of its data while it is stopped."""
        self._is_stopped()
        for old in self._data.iterdir():
            self._folder.remove(old)
        self._folder.account.run("cp", "-Rp", f"{saved}/.", self._data, cwd=self._folder.path)

    def check(self) -> None:
        """Raise `ServerFailedError` if it has ended by itself."""
        self._process.check()

    def was_late_for_a_port(self) -> bool:
        return self._process.has_logged(TAKEN)

    def _takes_connections(self) -> bool:
        # It listens for clients only after JetStream has found what it stored.
        return health(self.monitor_port) is not None and _listens(self.port)


class NatsServer(ServersTogether[NatsNode]):
    """A NATS of yours alone, of one node or of several: stop it, kill it or one of its nodes, put older data below it.

    Each call waits until it is done. In a coroutine that is not to stand still meanwhile, call it with `asyncio.to_thread`.
    """

    def __init__(
        self,
        folder: ServerFolder,
        nodes: int = 1,
        *,
        token: str | None = "test",
        tls: TlsFiles | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._all = self.nodes = [NatsNode(folder, f"n{number}") for number in range(nodes)]
        self._token = token
        self._tls = None if tls is None else _own(folder, tls)
        self._settings = settings or {}

    @property
    def url(self) -> str:
        """All nodes; without the name that an application's URL ends with."""
        hosts = ",".join(node.host for node in self.nodes)
        return f"nats://{self._token}@{hosts}" if self._token else f"nats://{hosts}"

    def fresh_url(self) -> str:
        """A URL with a name that nothing is stored under."""
        return fresh_database(self.url)

    def start_first(self) -> None:
        """Start the nodes on free ports, and wait until JetStream answers."""
        for tries_left in reversed(range(TRIES)):
            self._configure()
            try:
                self.start()
            except ServerFailedError:
                self.kill()
                if not tries_left or not any(node.was_late_for_a_port() for node in self.nodes):
                    raise
            else:
                return

    def _configure(self) -> None:
        for node in self.nodes:
            node.choose_ports()
        for node in self.nodes:
            others = [other for other in self.nodes if other is not node]
            node.configure(token=self._token, tls=self._tls, others=others, settings=self._settings)

    def _wait_until_usable(self) -> None:
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Wait until JetStream answers on every node that runs, all copies have caught up, and all have a leader."""
        wait_until(self._is_healthy, alive=self._check)

    def _check(self) -> None:
        for node in self.nodes:
            node.check()

    def _is_healthy(self) -> bool:
        running = [node for node in self.nodes if node.runs]
        if not all(node.is_healthy() for node in running):
            return False
        if len(self.nodes) == 1:
            return True
        # A node that has just started, or lost its leader a moment ago, says that it is healthy, and may name itself.
        told = [node.jetstream().leaders() for node in running]
        leaders = {(stream, leader) for known in told for stream, leader in known.items()}
        names = {node.name for node in running}
        return {leader for _, leader in leaders} <= names and len(leaders) == len(
            {name for name, _ in leaders}
        )

    def leader_of(self, stream: str) -> NatsNode:
        """The node that leads this JetStream stream; waits for an election."""
        found: list[NatsNode] = []

        def is_elected() -> bool:
            running = {node.name: node for node in self.nodes if node.runs}
            leaders = {node.jetstream().leaders().get(stream, "") for node in running.values()} - {""}
            found[:] = [running[name] for name in leaders if name in running]
            return len(leaders) == len(found) == 1

        if len(self.nodes) == 1:
            return self.nodes[0]
        wait_until(is_elected)
        return found[0]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE):
            return True
    except OSError:
        return False


def _own(folder: ServerFolder, tls: TlsFiles) -> TlsFiles:
    """The same files where the account of the servers can read them."""
    place = folder.new(f"nats-tls-{secrets.token_hex(3)}")
    return TlsFiles(
        certificate=folder.write(place / "certificate.pem", tls.certificate.read_text("utf-8")),
        key=folder.write(place / "key.pem", tls.key.read_text("utf-8")),
        authority=folder.write(place / "authority.pem", tls.authority.read_text("utf-8")),
    )


def _merged(settings: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others above them, also inside of a block; one that is None there is left out."""
    merged = dict(settings)
    for name, value in above.items():
        if isinstance(value, dict) and name in merged:
            value = merged[name] | value
        merged[name] = value
    return {name: value for name, value in merged.items() if value is not None}
