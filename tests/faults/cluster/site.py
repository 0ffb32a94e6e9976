"""Three hosts, each with a node and an application, and beside it a plain publisher; and what can be done to them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trustme

from rehydrate.nats.monitor import JetStream, health, jetstream
from tests.faults.cluster.application import Orders
from tests.faults.cluster.history import Entry
from tests.faults.cluster.journal import Attempt, read_journals
from tests.faults.cluster.network import Network
from tests.faults.cluster.processes import Process, start
from tests.faults.cluster.publisher import STREAM, PlainOrders
from tests.faults.cluster.skew import Skew
from tests.faults.cluster.waiting import LIMIT, until

_T = TypeVar("_T")

NAME: Final = "bank"
EVENTS: Final = f"{NAME}-events"
PLAIN: Final = STREAM
META: Final = ""
TOKEN: Final = "fault-matrix"
_ANSWERS: Final = (b'"type":"stored"', b'"type":"refused"', b'"type":"shown"')


class Host:
    """One of the machines."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"n{number}"
        self.node: Process | None = None
        self.application: Process | None = None
        self.publisher: Process | None = None
        self.started = 0
        """How many applications, one after the other."""


class Site:
    """All hosts, in one network."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        *,
        hosts: int = 3,
        first: int = 0,
        ttl: int = 15,
        delay: float = 0.0,
        skews: Sequence[Skew | None] = (),
    ) -> None:
        self.folder = folder
        self.network = network
        self.hosts = [Host(number) for number in range(first, first + hosts)]
        self.ttl = ttl
        self._delay = delay
        self._skews = skews or [None] * (first + hosts)
        self._relays: list[Process] = []
        self._is_far = network.has_cables
        """Beyond its own machine a node listens with TLS only."""

    # ---- where things are

    def _tls(self) -> str:
        return f"&tls_ca={self.folder}/authority.pem" if self._is_far else ""

    def _servers(self) -> str:
        return ",".join(self.network.endpoint(host.number) for host in self.hosts)

    @property
    def store(self) -> str:
        return f"nats://{TOKEN}@{self._servers()}/{NAME}?replicas={len(self.hosts)}{self._tls()}"

    @property
    def cluster(self) -> str:
        return f"nats://{TOKEN}@{self._servers()}/{NAME}?ttl={self.ttl}{self._tls()}"

    def _journal(self, kind: str, host: Host) -> Path:
        return self.folder / f"{kind}-{host.name}-{host.started}.journal"

    # ---- starting

    async def start(self, *, applications: bool = True, publishers: bool = True) -> None:
        """Start everything, and wait until every caller calls."""
        if self._is_far:
            await asyncio.to_thread(self._issue_certificates)
        await self._start_relays()
        await self.start_nodes(self.hosts)
        if publishers:
            await asyncio.gather(*map(self.start_publisher, self.hosts))
        if applications:
            await asyncio.gather(*map(self.start_application, self.hosts))

    def _issue_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "authority.pem"))
        for host in self.hosts:
            address = self.network.endpoint(host.number).partition(":")[0]
            certificate = authority.issue_cert(address)  # pyright: ignore[reportUnknownMemberType]
            certificate.private_key_pem.write_to_path(str(self.folder / f"{host.name}.key"))
            certificate.cert_chain_pems[0].write_to_path(str(self.folder / f"{host.name}.pem"))

    async def _start_relays(self) -> None:
        if not self._delay:
            return
        for host in self.hosts:
            address, _, port = self.network.endpoint(host.number).rpartition(":")
            ways = [
                f"{address}:{int(port) + above}={address}:{int(port) + above + 10_000}"
                for above in (0, 2_000)
            ]
            relay = await start(
                [
                    *self.network.inside(host.number),
                    *(sys.executable, "-m", "tests.faults.cluster.relay", str(self._delay), *ways),
                ],
                log=self.folder / f"relay-{host.name}.log",
            )
            await relay.says("ready")
            self._relays.append(relay)

    async def start_nodes(self, hosts: Iterable[Host]) -> None:
        """Start the nodes of these hosts, and wait until they are ready: a majority has to be there."""
        started = [await self._start_node(host) for host in hosts]
        await asyncio.gather(*(node.says(": ready") for node in started))

    async def _start_node(self, host: Host) -> Process:
        address, _, port = self.network.endpoint(host.number).rpartition(":")
        peers = ",".join(f"{peer.name}={self.network.endpoint(peer.number)}" for peer in self.hosts)
        command = ["node", "--name", host.name, "--data", str(self.folder / host.name)]
        if len(self.hosts) > 1:
            command += ["--peers", peers]
        # Behind a relay it listens elsewhere than where it is reached.
        command += ["--listen", f"{address}:{int(port) + (10_000 if self._delay else 0)}"]
        if self._is_far:
            command += [
                "--tls-cert",
                f"{self.folder}/{host.name}.pem",
                "--tls-key",
                f"{self.folder}/{host.name}.key",
            ]
            command += ["--tls-ca", f"{self.folder}/authority.pem"]
        host.node = await start(
            [*self.network.inside(host.number), sys.executable, "-m", "rehydrate.cli", *command],
            log=self.folder / f"node-{host.name}.log",
            env={"REHYDRATE_NODE_TOKEN": TOKEN, "COLUMNS": "200"},
        )
        return host.node

    async def start_application(self, host: Host, *, code: int = 1) -> None:
        """Start an application on a host, and wait until its callers call."""
        host.started += 1
        orders = Orders(
            name=f"{host.name}-{host.started}",
            store=self.store,
            cluster=self.cluster,
            journal=str(self._journal("bank", host)),
            skew=self._skews[host.number],
        )
        host.application = await self._start_callers("application", host, orders, code)
        await host.application.says("ready")

    async def start_publisher(self, host: Host) -> None:
        orders = PlainOrders(
            name=host.name,
            # Its own first, as Rehydrate does it.
            servers=[
                f"nats://{self.network.endpoint(peer.number)}"
                for peer in sorted(self.hosts, key=lambda peer: peer is not host)
            ],
            token=TOKEN,
            authority=f"{self.folder}/authority.pem" if self._is_far else "",
            journal=str(self._journal("plain", host)),
            copies=len(self.hosts),
        )
        host.publisher = await self._start_callers("publisher", host, orders, 1)
        await host.publisher.says("ready")

    async def _start_callers(
        self, program: str, host: Host, orders: Orders | PlainOrders, code: int
    ) -> Process:
        return await start(
            [
                *self.network.inside(host.number),
                *(sys.executable, "-m", f"tests.faults.cluster.{program}"),
                msgspec.json.encode(orders).decode(),
            ],
            log=self.folder / f"{program}-{host.name}.log",
            env={"REHYDRATE_TEST_BANK": str(code)},
        )

    # ---- looking

    def journals(self, kind: str = "bank", hosts: Sequence[Host] | None = None) -> list[Attempt]:
        """All that callers on these hosts have written down."""
        names = [host.name for host in (self.hosts if hosts is None else hosts)]
        return read_journals(path for name in names for path in self.folder.glob(f"{kind}-{name}-*.journal"))

    def answers(self, hosts: Sequence[Host] | None = None) -> int:
        """How many answers callers on these hosts have got."""
        names = [host.name for host in (self.hosts if hosts is None else hosts)]
        texts = [path.read_bytes() for name in names for path in self.folder.glob(f"bank-{name}-*.journal")]
        return sum(text.count(answer) for text in texts for answer in _ANSWERS)

    async def get_on(self, more: int, hosts: Sequence[Host] | None = None) -> None:
        """Wait until callers on each of these hosts have got so many more answers."""
        before = {host.name: self.answers([host]) for host in self.hosts}

        def all_have() -> bool:
            return all(
                self.answers([host]) >= before[host.name] + more
                for host in (self.hosts if hosts is None else hosts)
            )

        await until(all_have)

    async def leader(self, stream: str) -> Host:
        """The host whose node leads a JetStream stream; under no name, the one that leads the servers."""
        found: list[Host] = []

        async def is_elected() -> bool:
            found.clear()
            for host in self.hosts:
                told = await self.ask(host, jetstream)
                name = (told or JetStream()).leaders().get(stream, "")
                found.extend(host for host in self.hosts if host.name == name and host not in found)
            return len(found) == 1

        await until(is_elected)
        return found[0]

    async def healthy(self) -> None:
        """Wait until every node that runs has caught up with the others."""

        async def all_are() -> bool:
            told = [await self.ask(host, health) for host in self.hosts if host.node and host.node.runs]
            return all(one is not None and one.status == "ok" for one in told)

        await until(all_are)

    async def led_alike(self, publisher: Host) -> Host:
        """Have the plain publishes led by the node that leads the store's events; which."""
        leader = await self.leader(EVENTS)

        async def is_alike() -> bool:
            if await self.leader(PLAIN) is leader:
                return True
            assert publisher.publisher is not None
            publisher.publisher.tell(leader.name)
            await publisher.publisher.says("success")
            return False

        await until(is_alike)
        return leader

    async def ask(self, host: Host, question: Callable[[int], _T]) -> _T | None:
        """Ask the server of a host on its monitoring port; None where none runs."""
        port = self._monitor_port(host)
        return (
            await asyncio.to_thread(self.network.look, host.number, partial(question, port)) if port else None
        )

    def _monitor_port(self, host: Host) -> int:
        if host.node is None or not host.node.runs:
            return 0
        for pid in host.node.family():
            path = self.folder / host.name / "ports" / f"nats-server_{pid}.ports"
            if path.exists() and (text := path.read_bytes()):
                return int(msgspec.json.decode(text)["monitoring"][0].rpartition(":")[2])
        return 0

    def server_log(self, host: Host) -> str:
        """All that the server of a host has written down."""
        return (self.folder / host.name / "nats-server.log").read_text("utf-8")

    # ---- the end

    async def finish(self) -> None:
        """Let every caller get its last answer."""
        ending = [
            process
            for host in self.hosts
            for process in (host.application, host.publisher)
            if process is not None and process.runs
        ]
        for process in ending:
            process.finish()
        await asyncio.gather(*(process.ended_well(limit=LIMIT) for process in ending))

    async def log(self) -> list[Entry]:
        """The whole log, and the check that every account is what its events make it."""
        written = self.folder / "log.json"
        reading = await start(
            [
                *self.network.inside(self.hosts[0].number),
                *(sys.executable, "-m", "tests.faults.cluster.reading", self.store, str(written)),
            ],
            log=self.folder / "reading.log",
            env={"REHYDRATE_TEST_BANK": "2"},
        )
        await reading.ended_well(limit=LIMIT)
        return msgspec.json.decode(written.read_bytes(), type=list[Entry])

    async def close(self) -> None:
        """Leave nothing behind."""
        for process in [
            *(one for host in self.hosts for one in (host.application, host.publisher, host.node) if one),
            *self._relays,
        ]:
            if process.runs:
                process.kill()
            await process.ended()
