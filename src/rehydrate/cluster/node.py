"""A node: a NATS server that this process starts, watches over, starts again when it dies, and ends.

async with Node(name="a", data="data/a") as node:
    async with app.open(node.store_url("bank")) as bank:
        ...
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from rehydrate.cluster.node_data import NodeData
from rehydrate.cluster.node_plan import NodePlan, plan_node
from rehydrate.errors import ConfigurationError, RehydrateError
from rehydrate.fork import bind_to_process
from rehydrate.nats.configuration import TlsFiles
from rehydrate.nats.log import complaint, has_namesake, is_passing
from rehydrate.nats.server import (
    DataInUseError,
    NodeFailedError,
    ServerChild,
    ServerFiles,
    ServerHealth,
    server_program,
)

logger = logging.getLogger(__name__)

_LOOK: Final = 0.05
"""Seconds between two looks at a server that is not ready yet."""
_LOOK_LATER: Final = 1.0
"""The same for one that is."""
_SAY_EVERY: Final = 5.0
_SAME_AGAIN: Final = 60.0
"""Seconds until the same complaint is said once more."""
_IN_USE_LIMIT: Final = 15.0
"""Seconds that the server of a process which was killed has to end."""
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a server that has died is started again, once more often in a row."""
_PROVEN: Final = 60.0
"""Seconds after which a server that was started again counts as one that works."""

_abandoned: Final[list[object]] = []
"""What belongs to the process from which this one was forked: to let go of a server here would end it there."""


class NodeHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is at a moment."""

    is_ready: bool
    """Whether its server answers, and, in a cluster, knows who leads it."""
    connected: tuple[str, ...]
    """The other nodes that it is connected with."""
    missing: tuple[str, ...]
    """Those that it is not."""
    leader: str
    """Who leads the cluster; empty for a node that stands alone, and while there is none."""
    behind: tuple[str, ...]
    """JetStream streams, led here, of which a copy elsewhere is old or missing."""
    error: str
    """What the server finds wrong with itself."""


class Node:
    """One of 1, 3 or 5 nodes that keep the same data; `async with` starts its server and waits until it is ready.

    Args:
        name: Its name among its peers.
        data: Its folder, which is made at the first start and belongs to this node alone.
        listen: `host:port`; by default where its peers reach it, or 127.0.0.1:4222.
        peers: All nodes, this one among them: `{"a": "10.0.0.1:4222", ...}` or `["a=10.0.0.1:4222", ...]`, the same
            for all. Without any it stands alone. Nodes talk to each other at the port 2,000 above.
        token: What clients and peers must know.
        tls: Its certificate and key, and the authority that signed those of all peers. Beyond this machine a node
            listens with a token and TLS only.
        cluster: The cluster's name.
        max_bytes: The most that it stores; by default most of what the disk has free.
        ready_within: Seconds after which the start is given up; by default it waits for its peers for ever, and says so.

    Raises `ConfigurationError` for what cannot be a node, and `NodeFailedError` at a start that does not succeed.
    """

    def __init__(
        self,
        *,
        name: str,
        data: str | os.PathLike[str],
        listen: str | None = None,
        peers: Mapping[str, str] | Iterable[str] = (),
        token: str | None = None,
        tls: TlsFiles | None = None,
        cluster: str = "rehydrate",
        max_bytes: int | None = None,
        ready_within: float | None = None,
    ) -> None:
        self._plan = plan_node(
            name=name,
            listen=listen,
            peers=peers,
            cluster=cluster,
            token=token,
            tls=tls,
            max_bytes=max_bytes,
        )
        self._data = NodeData(Path(data))
        self._ready_within = ready_within
        self._is_entered = False
        self._server: ServerChild | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._complained: dict[str, float] = {}
        self._has_namesake = False
        self._seen = ServerHealth()
        self._owner = f"{os.getpid()}-{secrets.token_hex(4)}"

    def __repr__(self) -> str:
        return f"Node({self.name!r})"

    @property
    def name(self) -> str:
        return self._plan.name

    @property
    def plan(self) -> NodePlan:
        """What it was asked to be."""
        return self._plan

    @property
    def replicas(self) -> int:
        """How many copies are kept of everything: as many as there are peers, however many can be seen now."""
        return len(self._plan.peers)

    @property
    def url(self) -> str:
        """Where to connect: `node.url + "/bank"` is a store's URL. It holds the token."""
        return self._plan.url

    @property
    def data(self) -> Path:
        """Its folder."""
        return self._data.folder

    @property
    def files(self) -> ServerFiles:
        """Where the files of its server are."""
        return self._data.files

    def store_url(self, name: str) -> str:
        """The URL of the store of that name, with all that this node knows: copies, and whom to trust."""
        return self._plan.store_url(name)

    def cluster_url(self, name: str) -> str:
        """What `app.open(..., cluster=)` takes, with whom to trust."""
        return self._plan.cluster_url(name)

    @property
    def server_pid(self) -> int:
        """The process id of its server, and 0 while none runs."""
        return self._server.pid if self._server is not None and self._server.runs else 0

    async def __aenter__(self) -> Self:
        if self._is_entered:
            # What follows would end the server that runs.
            raise ConfigurationError(f"node {self.name!r} runs here already: it is entered once at a time")
        server_program()
        self._is_entered = True
        try:
            return await self._enter()
        except BaseException:
            self._is_entered = False
            raise

    async def _enter(self) -> Self:
        bind_to_process(self)
        self._data.claim(self._plan)
        self._data.configure(self._plan)
        try:
            async with asyncio.timeout(self._ready_within):
                self._server = await self._start_server()
                await self._wait_until_ready(self._server)
        except TimeoutError:
            await self._end()
            raise NodeFailedError(
                f"node {self.name!r} was not ready within {self._ready_within:g} s: {self._waits_for(self._seen)}"
            ) from None
        except BaseException:
            await self._end()
            raise
        self._keeping = asyncio.ensure_future(self._keep(self._server))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._end()
        finally:
            self._is_entered = False

    def forked(self) -> None:
        """In a forked process the server is another's: whatever is done here must not end it."""
        _abandoned.extend((self._server, self._keeping))
        self._server = self._keeping = None
        self._is_entered = False

    async def health(self) -> NodeHealth:
        """How it is now."""
        told = await self._server.health(self.name) if self._server is not None else ServerHealth()
        return NodeHealth(
            is_ready=self._is_ready(told),
            connected=tuple(name for name in self._plan.others if name in told.connected),
            missing=tuple(name for name in self._plan.others if name not in told.connected),
            leader=told.leader,
            behind=tuple(sorted(told.behind)),
            error=told.error,
        )

    # ---- starting

    async def _start_server(self) -> ServerChild:
        """Start it, as soon as the server of a process that was killed has let go of the data."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _IN_USE_LIMIT
        is_told = False
        while True:
            server = ServerChild(self._data.files, self._owner)
            try:
                await server.start()
            except DataInUseError as error:
                if not error.is_orphan or loop.time() > until:
                    raise
                if not is_told:
                    logger.warning(
                        "%s: another server still works on its data; waiting for its end", self.name
                    )
                    is_told = True
                await asyncio.sleep(_LOOK)
            else:
                return server

    async def _wait_until_ready(self, server: ServerChild) -> None:
        loop = asyncio.get_running_loop()
        say_at = loop.time() + _SAY_EVERY
        self._has_namesake = False
        while True:
            told = self._seen = await server.health(self.name)
            self._pass_on_complaints(server)
            if not server.runs:
                raise NodeFailedError(
                    f"the server of node {self.name!r} did not start: {server.why_it_ended()}"
                )
            if self._has_namesake:
                # The others would take what either of them says for the word of one.
                raise NodeFailedError(
                    f"node {self.name!r} is not started: there is another node of that name; give each a name of its own"
                )
            if self._is_ready(told):
                logger.info("%s: ready, at %s", self.name, self._plan.shown_url)
                return
            if loop.time() >= say_at:
                logger.warning("%s: %s", self.name, self._waits_for(told))
                say_at = loop.time() + _SAY_EVERY
            await asyncio.sleep(_LOOK)

    def _is_ready(self, told: ServerHealth) -> bool:
        if not self._plan.others:
            return told.answers and not told.error
        # What is stored may still have to catch up here: the others have it.
        return told.answers and told.leader in {self.name, *told.connected}

    def _waits_for(self, told: ServerHealth) -> str:
        if not told.answers or not self._plan.others:
            return told.error or "its server does not answer yet"
        missing = [name for name in self._plan.others if name not in told.connected]
        seen, needed = self.replicas - len(missing), self.replicas // 2 + 1
        if seen >= needed:
            return f"{seen} of {self.replicas} nodes are there, and elect a leader"
        where = ", ".join(f"{name} at {self._plan.peers[name]}" for name in missing)
        return f"{seen} of {self.replicas} nodes is there, and {needed} are needed: waiting for {where}"

    # ---- watching over it

    async def _keep(self, server: ServerChild) -> None:
        """Start the server again whenever it has died, after a pause that grows."""
        loop = asyncio.get_running_loop()
        tries = 0
        since = loop.time()
        while True:
            await self._watch(server)
            if loop.time() - since > _PROVEN:
                tries = 0
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            logger.error(
                "%s: its server has ended: %s; it is started again in %g s",
                self.name,
                server.why_it_ended(),
                pause,
            )
            await asyncio.sleep(pause)
            since = loop.time()
            server = self._server = await self._started_again()
            try:
                await self._wait_until_ready(server)
            except NodeFailedError:
                continue

    async def _started_again(self) -> ServerChild:
        while True:
            try:
                return await self._start_server()
            except (RehydrateError, OSError) as error:
                logger.error("%s: %s; it is tried again in %g s", self.name, error, _PAUSES[-1])
            await asyncio.sleep(_PAUSES[-1])

    async def _watch(self, server: ServerChild) -> None:
        """Pass on what the server complains of, until it has ended."""
        while server.runs:
            try:
                async with asyncio.timeout(_LOOK_LATER):
                    await server.ended()
            except TimeoutError:
                pass
            self._pass_on_complaints(server)

    def _pass_on_complaints(self, server: ServerChild) -> None:
        now = asyncio.get_running_loop().time()
        for line in server.news():
            self._has_namesake = self._has_namesake or has_namesake(line)
            sentence = complaint(line)
            if sentence is None or now - self._complained.get(sentence, -_SAME_AGAIN) < _SAME_AGAIN:
                continue
            if len(self._complained) > 1_000:
                self._complained.clear()
            self._complained[sentence] = now
            logger.log(logging.INFO if is_passing(line) else logging.WARNING, "%s: %s", self.name, sentence)

    async def _end(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.shield(server.stop())
