"""A network that fails when it is told to: a TCP proxy between a client and a server.

    async with Proxy(url) as proxy:
        held = proxy.hold("insert", part=0.5)     # of the next insert, one half gets through
        ...                                       # somebody writes to `proxy.url`
        await held.reached()
        held.cut()

It runs in the event loop of the test, so it goes on while a process that writes through it is killed or stands still.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from rehydrate.testing.clock import HANG_LIMIT
from rehydrate.testing.servers.process import free_port
from rehydrate.testing.wire import Message, Wire, wire_of

_CHUNK: Final = 1 << 16
_SSL_REQUEST: Final = struct.pack(">ii", 8, 80877103)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""Linger for no time at all: the peer sees a reset, not an orderly end."""
_DEFAULT_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "mongodb": 27017}


class Occurrence:
    """Something that the proxy was told to do once."""

    def __init__(self) -> None:
        self._connection: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    @property
    def has_happened(self) -> bool:
        return self._connection.done()

    async def happened(self) -> None:
        """Wait until it has happened; a `TimeoutError` after half a minute."""
        async with asyncio.timeout(HANG_LIMIT):
            await asyncio.shield(self._connection)

    def happens_to(self, connection: Connection) -> None:
        if not self._connection.done():
            self._connection.set_result(connection)


class AtMessage(Occurrence):
    """Something that happens at the n-th message of a kind."""

    def __init__(self, matches: Callable[[Message], bool], after: int) -> None:
        super().__init__()
        self._matches = matches
        self._left = after

    def takes(self, message: Message) -> bool:
        """Whether it is at this message; asked once for each, in the order in which they come."""
        if not self._matches(message):
            return False
        self._left -= 1
        return self._left < 0


class Held(AtMessage):
    """A message that waits in the proxy, and with it all that comes after it in the same direction."""

    def __init__(self, matches: Callable[[Message], bool], after: int, part: float) -> None:
        super().__init__(matches, after)
        self._part = part
        self._message: Message | None = None
        self._released = asyncio.Event()
        self._answered = asyncio.Event()

    async def reached(self) -> Message:
        """Wait until the message has come, and its part has passed; a `TimeoutError` after half a minute."""
        await self.happened()
        assert self._message is not None
        return self._message

    def release(self) -> None:
        """Let it pass, and all that comes after it; one that has not come yet will not be held."""
        self._released.set()

    def cut(self) -> None:
        """Cut the connection of the message, which was reached: what is held never arrives."""
        self._connection.result().cut()

    def cut_client(self) -> None:
        """Cut the client off, and nobody else: what is held can still arrive, long after the client gave it up."""
        self._connection.result().cut_client()

    async def answered(self) -> None:
        """After `release`: wait until the server has answered the request that was held."""
        async with asyncio.timeout(HANG_LIMIT):
            await self._answered.wait()

    async def hold(self, connection: Connection, message: Message) -> None:
        if self._released.is_set():
            await connection.write(message.data, from_client=message.from_client)
            return
        part = round(len(message.data) * self._part)
        await connection.write(message.data[:part], from_client=message.from_client)
        self._message = message
        self.happens_to(connection)
        await self._released.wait()
        connection.answered = self._answered
        await connection.write(message.data[part:], from_client=message.from_client)


class CutAfter(Occurrence):
    """A connection that is cut when so many more bytes have passed in one direction."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size

    def allows(self, data: bytes) -> bytes:
        """As much of it as may still pass."""
        allowed = data[: self._left]
        self._left -= len(allowed)
        return allowed

    @property
    def is_due(self) -> bool:
        return not self._left


class Proxy:
    """Passes on what comes, between its clients and the server of a URL, until it is told otherwise.

    On the way to PostgreSQL or MongoDB it knows messages, and passes them on one by one; else bytes, as they come. With
    `tls` it is where the encryption ends that its clients see; from there to the server nothing is encrypted.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._tls = tls
        name, _, port = parts.netloc.rpartition("@")[2].split(",")[0].partition(":")
        self._server = (name, int(port or _DEFAULT_PORTS[parts.scheme]))
        # PostgreSQL's clients ask for encryption first; all others begin with it.
        self._tls_is_asked_for = parts.scheme in {"postgresql", "postgres"}
        self.port = free_port()
        self._listening: asyncio.Server | None = None
        self._opened = 0
        self._flowing = {True: asyncio.Event(), False: asyncio.Event()}
        self._at_message: list[AtMessage] = []
        self._cuts: dict[bool, CutAfter] = {}
        self.url = _with_host(url, f"127.0.0.1:{self.port}")
        """That server by way of this proxy. The other members of a replica set are not looked for."""
        self.delay = 0.0
        """Seconds that every message is late, in both directions."""
        self.on_message: Callable[[Message], object] = lambda _: None
        """Hears of each message that has come, before it passes."""
        self.connections: set[Connection] = set()
        """Those that are open."""
        self.go_on()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        open_ones = list(self.connections)
        self.cut()
        for connection in open_ones:
            await connection.ended.wait()

    async def accept(self) -> None:
        """Take new connections (again)."""
        if self._listening is None:
            tls = None if self._tls_is_asked_for else self._tls
            self._listening = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=tls, limit=_CHUNK
            )

    def refuse(self) -> None:
        """Refuse new connections, as a server does that is not there. Those that are open stay."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def cut(self) -> None:
        """Cut all connections that are open: both ends see a reset."""
        for connection in list(self.connections):
            connection.cut()

    def stall(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Pass on nothing more, in one direction or in both, as a network does that loses every packet."""
        for stalls, from_client in ((to_server, True), (to_client, False)):
            if stalls:
                self._flowing[from_client].clear()

    def go_on(self) -> None:
        """End a stall: what came meanwhile passes now, in order."""
        for event in self._flowing.values():
            event.set()

    def hold(
        self,
        *names: str,
        where: Callable[[Message], bool] = lambda _: True,
        after: int = 0,
        part: float = 0.0,
    ) -> Held:
        """Hold a message of a client, the next or the one `after` so many, and what comes after it on its connection.

        Counted are the messages of these names, or of all but those that a driver sends by itself. `part` is how much
        of it passes at once: with 0.5 the server waits for the second half, with 1.0 for the next message.
        """
        held = Held(self._of_client(names, where), after, part)
        self._at_message.append(held)
        return held

    def hold_answer(
        self,
        *names: str,
        where: Callable[[Message], bool] = lambda _: True,
        after: int = 0,
        part: float = 0.0,
    ) -> Held:
        """Hold a message of the server in the same way."""
        held = Held(
            lambda it: not it.from_client and (not names or it.name in names) and where(it), after, part
        )
        self._at_message.append(held)
        return held

    def lose_answer(
        self, *names: str, where: Callable[[Message], bool] = lambda _: True, after: int = 0
    ) -> Occurrence:
        """Cut the connection of a client's message when the server has answered it, and keep the answer."""
        lost = AtMessage(self._of_client(names, where), after)
        self._at_message.append(lost)
        return lost

    def cut_after(self, size: int, *, from_client: bool = True) -> Occurrence:
        """Cut a connection after so many more bytes, counted over all of them, from the clients or from the server."""
        cut = self._cuts[from_client] = CutAfter(size)
        return cut

    def at(self, message: Message) -> AtMessage | None:
        """What is to happen at this message, if anything."""
        self.on_message(message)
        # Each counts for itself, also those whose turn it is not.
        due = [each for each in self._at_message if each.takes(message)]
        if not due:
            return None
        self._at_message.remove(due[0])
        return due[0]

    async def flows(self, *, from_client: bool) -> None:
        """Wait until that direction is not stalled."""
        await self._flowing[from_client].wait()

    def may_pass(self, data: bytes, *, from_client: bool) -> tuple[bytes, CutAfter | None]:
        """As much of it as may pass, and whether the connection is to be cut then."""
        cut = self._cuts.get(from_client)
        if cut is None:
            return data, None
        allowed = cut.allows(data)
        if not cut.is_due:
            return allowed, None
        del self._cuts[from_client]
        return allowed, cut

    def _of_client(self, names: Iterable[str], where: Callable[[Message], bool]) -> Callable[[Message], bool]:
        named = set(names)
        wire = wire_of(self._scheme)

        def matches(message: Message) -> bool:
            if not message.from_client:
                return False
            counts = message.name in named if named else message.name not in wire.background
            return counts and where(message)

        return matches

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        connection = Connection(self, self._opened, wire_of(self._scheme), reader, writer)
        self.connections.add(connection)
        try:
            await connection.run(self._server, self._tls if self._tls_is_asked_for else None)
        finally:
            self.connections.discard(connection)


class Connection:
    """One client of a proxy, and its connection to the server."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        wire: Wire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.answered = asyncio.Event()
        """Set when the server has answered."""
        self.ended = asyncio.Event()
        self._proxy = proxy
        self._wire = wire
        self._readers = {True: reader}
        self._writers = {False: writer}
        """The sides of the client (False: what goes to it does not come from it) and of the server."""
        self._flows: list[asyncio.Task[None]] = []
        self._lost: Occurrence | None = None
        self._has_client = True
        self._is_cut = False

    async def run(self, server: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        """Pass on what comes until both directions have ended."""
        try:
            first = await self._encrypted(tls) if tls else b""
            self._readers[False], self._writers[True] = await asyncio.open_connection(*server, limit=_CHUNK)
            if self._is_cut:  # while it was being opened
                return
            for writer in self._writers.values():
                # What was drained is with the system: a cut does not take it back.
                # (Not 0: encrypted, that is reached by an empty buffer, and then nothing is ever written.)
                writer.transport.set_write_buffer_limits(1)
            self._flows = [
                asyncio.ensure_future(self._flow(from_client=True, first=first)),
                asyncio.ensure_future(self._flow(from_client=False)),
            ]
            await asyncio.wait(self._flows)
            for flow in self._flows:
                if not flow.cancelled():
                    flow.result()
        except (OSError, EOFError):
            pass
        finally:
            self.cut()
            self.ended.set()

    def cut(self) -> None:
        """Reset both sides, and pass on nothing more."""
        self._is_cut = True
        for writer in self._writers.values():
            _reset(writer)
        for flow in self._flows:
            flow.cancel()

    def cut_client(self) -> None:
        """Reset the side of the client."""
        self._has_client = False
        _reset(self._writers[False])

    async def write(self, data: bytes, *, from_client: bool) -> None:
        """Pass on, as far as it may pass."""
        await self._proxy.flows(from_client=from_client)
        data, cut = self._proxy.may_pass(data, from_client=from_client)
        if from_client or self._has_client:
            self._writers[from_client].write(data)
            await self._writers[from_client].drain()
        if cut:
            self.cut()
            cut.happens_to(self)

    async def _flow(self, *, from_client: bool, first: bytes = b"") -> None:
        """One direction, to its end."""
        split = self._wire.from_client if from_client else self._wire.from_server
        data = first or await self._readers[from_client].read(_CHUNK)
        try:
            while data:
                for name, piece in split(data):
                    await self._pass_on(
                        Message(name=name, data=piece, from_client=from_client, connection=self.number)
                    )
                data = await self._readers[from_client].read(_CHUNK)
            await self._proxy.flows(from_client=from_client)
            if from_client and not self._has_client:
                await self.answered.wait()
            _end(self._writers[from_client])
        except OSError:
            self.cut()

    async def _pass_on(self, message: Message) -> None:
        found = self._proxy.at(message)
        if self._proxy.delay:
            await asyncio.sleep(self._proxy.delay)
        ends_answer = not message.from_client and message.name == (self._wire.last_of_answer or message.name)
        if self._lost and not message.from_client:
            if ends_answer:
                self.cut()
                self._lost.happens_to(self)
        elif isinstance(found, Held):
            await found.hold(self, message)
        else:
            if found:
                self._lost = found
            await self.write(message.data, from_client=message.from_client)
        if ends_answer:
            self.answered.set()

    async def _encrypted(self, tls: ssl.SSLContext) -> bytes:
        """Encrypt the client's side if that is what it asks for first; else this is what it said."""
        first = await self._readers[True].readexactly(len(_SSL_REQUEST))
        if first != _SSL_REQUEST:
            return first
        self._writers[False].write(b"S")
        await self._writers[False].drain()
        # Not `StreamWriter.start_tls`: before Python 3.12 its reader goes on pausing the transport that was there before.
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_CHUNK, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = await loop.start_tls(self._writers[False].transport, protocol, tls, server_side=True)
        if transport is None:
            raise ConnectionError("the connection was lost while its encryption was agreed on")
        protocol.connection_made(transport)
        self._readers[True] = reader
        self._writers[False] = asyncio.StreamWriter(transport, protocol, reader, loop)
        return b""


def _end(writer: asyncio.StreamWriter) -> None:
    """Say that no more comes; where that cannot be said alone, close."""
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        connected = writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()


def _with_host(url: str, host: str) -> str:
    """The same URL at another host, which is talked to alone."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "mongodb":
        options.pop("replicaSet", None)
        options["directConnection"] = "true"
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}", query=urlencode(options)))
