"""The driver, at arm's length: commands go in, replies or errors of ours come out."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

from bson.binary import Binary
from bson.codec_options import CodecOptions, TypeEncoder, TypeRegistry
from pymongo import AsyncMongoClient, monitoring
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import OperationFailure
from pymongo.server_description import ServerDescription

from rehydrate.errors import ConfigurationError, StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.mongodb import failures
from rehydrate.store.mongodb.address import Address
from rehydrate.store.mongodb.apart import WatchersApart, apart, connect_apart, cut_off_is_lost

Document: TypeAlias = dict[str, Any]
T = TypeVar("T")


class Calls:
    """Calls to the driver that are under way.

    Who is cancelled cancels only the wait: a call that is stopped in the middle costs the driver its connection. Nor does
    anybody cancel it who ends all tasks of the loop.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = apart(asyncio.create_task(call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, call: Coroutine[Any, Any, T], ended: Callable[[], None] = lambda: None) -> T:
        """The answer of a call; `ended` is called when it ends, which may be after who waits for it was cancelled."""
        task = self.begin(call)

        def end(task: asyncio.Task[T]) -> None:
            ended()
            if not task.cancelled():
                task.exception()  # Who was cancelled does not look how it ended.

        task.add_done_callback(end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise StoreUnavailableError(
                    f"{self._store}: this call was stopped before its answer came", stored=None
                ) from None
            raise

    async def finished(self) -> None:
        """Return when none is under way any more."""
        while self._running:
            await asyncio.wait(self._running)

    def stop(self) -> None:
        """Stop those that are still under way."""
        for task in self._running:
            task.cancel()


class Driver:
    """One client of the driver, for one database."""

    def __init__(
        self, address: Address, *, connections: int, listener: monitoring.ConnectionPoolListener | None = None
    ) -> None:
        self._address = address
        self._closed: str | None = None
        self._is_connected = False
        self._watchers = WatchersApart()
        try:
            with warnings.catch_warnings():
                # It would warn, and go on without the option: without encryption, for instance.
                warnings.simplefilter("error", UserWarning)
                self._client: AsyncMongoClient[Document] = AsyncMongoClient(
                    address.uri,
                    maxPoolSize=connections,
                    event_listeners=[self._watchers, *([] if listener is None else [listener])],
                )
        except (DriverConfigurationError, UserWarning, ValueError, TypeError, OSError) as error:
            raise ConfigurationError(self._sentence(error)) from None
        self._watchers.are_of(self._client)
        self._database = self._client[address.database]

    async def read(self, command: Document) -> Document:
        """Ask; once more if the connection broke, for a question may be asked twice."""
        try:
            return await self._run(command)
        except failures.OF_THE_DRIVER as error:
            failures.raise_if_no_bson(error)
            if not failures.is_of_the_connection(error):
                raise self.store_error(error, writing=False) from error
        return await self.ask(command)

    async def ask(self, command: Document) -> Document:
        """Ask, once."""
        return await self._command(command, writing=False)

    async def write(self, command: Document, *, session: AsyncClientSession | None = None) -> Document:
        """Change something, once; what could not be written stands in the reply.

        Raises `StoreUnavailableError`, whose `stored` is None where the server may have done it.
        """
        reply = await self._command(command, writing=True, session=session)
        if concern := reply.get("writeConcernError"):
            raise StoreUnavailableError(
                f"{self._address.shown}: it is not known whether this will last: {concern.get('errmsg')}",
                stored=None,
            )
        return reply

    async def administer(self, command: Document) -> Document:
        """A command for the server, rather than for the database. Raises the driver's errors."""
        with cut_off_is_lost():
            return await (await self._connected()).admin.command(command)

    async def read_all_of(self, command: Document) -> tuple[list[Document], bool]:
        """The documents of one reply, and whether these are all that were asked for: a reply has 16 MiB."""
        cursor = (await self.read(command))["cursor"]
        documents: list[Document] = cursor["firstBatch"]
        if cursor["id"]:
            # Nothing stays open behind it: whoever wants the rest asks for what comes behind the last one.
            collection = command.get("find") or command["aggregate"]
            await self.ask({"killCursors": collection, "cursors": [cursor["id"]]})
        return documents, not cursor["id"]

    @asynccontextmanager
    async def change_stream(self, command: Document, seconds: float) -> AsyncGenerator[ChangeStream, None]:
        """What changes from now on; each answer is held back for so long while there is none."""
        async with self._client.start_session() as session:
            reply = await self._command(command, writing=False, session=session)
            get_more = {"collection": command["aggregate"], "maxTimeMS": round(seconds * 1_000)}

            async def ask(cursor: int) -> Document:
                return await self._command({"getMore": cursor, **get_more}, writing=False, session=session)

            yield ChangeStream(reply["cursor"]["id"], ask)

    def session(self) -> AsyncClientSession:
        return self._client.start_session()

    def may_fail_over(self) -> bool:
        """Whether the replica set has more than one member, so that another one may be primary by now."""
        servers: dict[tuple[str, int | None], ServerDescription] = (
            self._client.topology_description.server_descriptions()
        )
        return any(len(server.all_hosts) > 1 for server in servers.values())

    async def close(self) -> None:
        """Give back all connections."""
        self._closed = "it is closed: open it again"
        self._watchers.is_needed = False
        await self._client.close()

    def abandon(self) -> None:
        """Touch nothing any more, and let nothing be closed: this is a forked child, which shares the connections."""
        _abandoned.append(self._client)

    async def _command(
        self, command: Document, *, writing: bool, session: AsyncClientSession | None = None
    ) -> Document:
        try:
            return await self._run(command, session)
        except failures.OF_THE_DRIVER as error:
            failures.raise_if_no_bson(error)
            if failures.is_of_another_collection(error):
                raise ForgottenError from error
            raise self.store_error(error, writing=writing) from error

    async def _run(self, command: Document, session: AsyncClientSession | None = None) -> Document:
        if self._closed is not None:
            raise StoreClosedError(self._closed)
        with cut_off_is_lost():
            await self._connected()
            # A copy: the driver adds fields of its own, and takes the documents out.
            return await self._database.command(dict(command), session=session, codec_options=_CODEC)

    async def _connected(self) -> AsyncMongoClient[Document]:
        if not self._is_connected:
            await connect_apart(self._client)
            self._is_connected = True
        return self._client

    def store_error(self, error: Exception, *, writing: bool) -> StoreError:
        """What an error of the driver means."""
        reason = self._address.without_secrets(failures.reason_of(error))
        return failures.as_store_error(error, self._address.shown, reason, writing=writing)

    def _sentence(self, error: Exception) -> str:
        return f"{self._address.shown}: {self._address.without_secrets(failures.reason_of(error))}"

    async def first_contact(self) -> Document:
        """What the primary says of itself; raises what whoever opens a store should read."""
        try:
            return await self.administer({"hello": 1})
        except failures.OF_THE_DRIVER as error:
            if failures.is_of_authentication(error):
                raise ConfigurationError(
                    f"{self._address.shown}: MongoDB does not let this user in ({self._sentence_of(error)}): check user, "
                    "password and authSource"
                ) from None
            if isinstance(error, OperationFailure | DriverConfigurationError):
                raise ConfigurationError(self._sentence(error)) from None
            raise StoreUnavailableError(
                f"{self._address.shown} cannot be reached: {self._sentence_of(error)}{self._why_nobody()}"
            ) from None

    def _sentence_of(self, error: Exception) -> str:
        return self._address.without_secrets(failures.reason_of(error))

    def _why_nobody(self) -> str:
        """What the driver has seen of the hosts that the URL names."""
        servers = self._client.topology_description.server_descriptions().values()
        if not servers:
            # It forgets those that are no members of the replica set that the URL names.
            return (
                "; none of these hosts is a member of the replica set that the URL names (a standalone server is in none: "
                "start it with --replSet)"
            )
        if any(server.server_type_name == "RSGhost" for server in servers):
            return "; a server is there whose replica set was never begun: run rs.initiate() once in mongosh"
        seen = next((server.error for server in servers if isinstance(server.error, Exception)), None)
        return "" if seen is None else f" ({self._sentence_of(seen)})"


class ChangeStream:
    """A cursor that does not end by itself."""

    def __init__(self, cursor: int, ask: Callable[[int], Awaitable[Document]]) -> None:
        self._cursor = cursor
        self._ask = ask

    async def more(self) -> bool:
        """Wait for a while; whether there was a change."""
        answer = (await self._ask(self._cursor))["cursor"]
        if answer["id"] == 0:
            raise StoreUnavailableError("the change stream has ended")
        return bool(answer["nextBatch"])


class Connections(monitoring.ConnectionPoolListener):
    """Counts the connections that the driver has made, so that one is never taken for another."""

    def __init__(self) -> None:
        self.made = 0

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:  # noqa: ARG002
        self.made += 1

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None: ...
    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None: ...
    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None: ...
    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None: ...
    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None: ...
    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None: ...
    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None: ...
    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None: ...
    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None: ...
    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None: ...


class ForgottenError(Exception):
    """What is known of the log was learned over another connection, or of another collection: it holds no more."""


class SameLog:
    """The collection that something was learned of, over a connection that still stands.

    It goes into a command as `collectionUUID`, by which the server refuses the command where the collection has been
    dropped and made anew. It becomes BSON after the driver has taken a connection for the command, and before
    anything is sent: if that is another connection than the one over which we learned, the server may have been
    started on other data meanwhile, and the command does not go out. It is this that makes it safe to give positions
    and to check versions from memory: no memory is older than the connection that it is used on.
    """

    __slots__ = ("_connections", "_made", "_uuid")

    def __init__(self, uuid: Binary, connections: Connections) -> None:
        self._uuid = uuid
        self._connections = connections
        self._made = connections.made

    def as_uuid(self) -> Binary:
        if self._connections.made != self._made:
            raise ForgottenError
        return self._uuid


class _SameLogEncoder(TypeEncoder):
    @property
    def python_type(self) -> type[SameLog]:
        return SameLog

    def transform_python(self, value: SameLog) -> Binary:
        return value.as_uuid()


_CODEC: Final[CodecOptions[Document]] = CodecOptions(
    document_class=dict, type_registry=TypeRegistry([_SameLogEncoder()])
)
_abandoned: Final[list[object]] = []
"""Clients of the process that this one was forked from, kept from being collected, which would close them."""
