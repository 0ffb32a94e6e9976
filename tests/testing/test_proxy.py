"""What the proxy does to a connection, seen from both of its ends."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import trustme
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from rehydrate.testing.clock import until
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LOST = (ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


class Echo:
    """A server that says everything back, and remembers how its connections ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.ends: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"echo://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while said := await reader.read(1 << 16):
                self.heard += said
                writer.write(said)
                await writer.drain()
            self.ends.append("end")
            writer.write(b"bye")
            await writer.drain()
        except ConnectionError:
            self.ends.append("reset")
        finally:
            writer.close()


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@asynccontextmanager
async def _client(proxy: Proxy, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Streams]:
    port = int(proxy.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    yield reader, writer
    writer.close()


async def _say(streams: Streams, said: bytes) -> None:
    streams[1].write(said)
    await streams[1].drain()


async def _ask(streams: Streams, said: bytes) -> bytes:
    await _say(streams, said)
    return await streams[0].readexactly(len(said))


# ------------------------------------------------------------------------------------------------------------ bytes


async def test_what_is_said_passes_in_both_directions_and_so_does_the_end(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        assert await _ask(client, b"x" * 1_000_000) == b"x" * 1_000_000
        client[1].write_eof()
        assert await client[0].read() == b"bye"
        assert echo.ends == ["end"]
        await until(lambda: not proxy.connections)


async def test_a_cut_is_a_reset_at_both_ends(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as first, _client(proxy) as second:
        for client in (first, second):
            assert await _ask(client, b"there?") == b"there?"
        proxy.cut()
        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                await client[0].read()
        await until(lambda: echo.ends == ["reset", "reset"])
        async with _client(proxy) as third:
            assert await _ask(third, b"again") == b"again"


async def test_refused_connections_are_refused_until_they_are_taken_again(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as first:
        assert await _ask(first, b"1") == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            async with _client(proxy):
                pass
        assert await _ask(first, b"2") == b"2"
        await proxy.accept()
        async with _client(proxy) as second:
            assert await _ask(second, b"3") == b"3"


async def test_a_server_that_is_not_there_is_a_lost_connection(echo: Echo) -> None:
    async with Proxy("tcp://127.0.0.1:1") as proxy, _client(proxy) as client:
        with pytest.raises(ConnectionResetError):
            await client[0].readexactly(1)


@pytest.mark.parametrize("to_server", [True, False])
async def test_nothing_passes_a_stall_and_all_of_it_passes_after_it(echo: Echo, to_server: bool) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        proxy.stall(to_server=to_server, to_client=not to_server)
        come: list[Message] = []
        proxy.on_message = come.append
        await _say(client, b"hello")
        # In the other direction it goes on: the server has heard it, and its answer has come as far as the proxy.
        await until(lambda: len(come) == (1 if to_server else 2))
        assert echo.heard == (b"" if to_server else b"hello")
        client[1].write_eof()
        proxy.go_on()
        assert await client[0].read() == b"hellobye"


@pytest.mark.parametrize("from_client", [True, False])
async def test_a_connection_is_cut_after_so_many_bytes(echo: Echo, from_client: bool) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        cut = proxy.cut_after(8, from_client=from_client)
        assert await _ask(client, b"five!") == b"five!"
        assert not cut.has_happened
        await _say(client, b"seven!!")
        await cut.happened()
        await until(lambda: echo.ends == ["reset"])
        assert echo.heard == (b"five!sev" if from_client else b"five!seven!!")
        async with _client(proxy) as another:
            assert await _ask(another, b"for ever" * 2) == b"for ever" * 2


async def test_a_delay_counts_in_both_directions(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        proxy.delay = 0.05
        start = time.monotonic()
        assert await _ask(client, b"slow") == b"slow"
        assert time.monotonic() - start >= 0.1


async def test_a_held_message_holds_what_comes_after_it_on_its_connection_only(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as first, _client(proxy) as second:
        held = proxy.hold(where=lambda message: b"stop" in message.data, part=0.5)
        assert await _ask(first, b"a") == b"a"
        await _say(first, b"stop")
        message = await held.reached()
        assert message.data == b"stop"
        await until(lambda: echo.heard == b"ast")
        await _say(first, b"more")
        assert await _ask(second, b"b") == b"b"
        held.release()
        assert await first[0].readexactly(8) == b"stopmore"


async def test_a_hold_that_was_released_before_it_was_reached_holds_nothing(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        proxy.hold().release()
        assert await _ask(client, b"a") == b"a"


async def test_what_is_held_never_arrives_when_its_connection_is_cut(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        held = proxy.hold(after=1)
        assert await _ask(client, b"first") == b"first"
        await _say(client, b"second")
        await held.reached()
        held.cut()
        with pytest.raises(ConnectionResetError):
            await client[0].read()
        await until(lambda: echo.ends == ["reset"])
        assert echo.heard == b"first"


async def test_an_answer_can_be_held_too(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        held = proxy.hold_answer(part=0.5)
        await _say(client, b"abcd")
        await held.reached()
        assert echo.heard == b"abcd"
        assert await client[0].readexactly(2) == b"ab"
        held.release()
        assert await client[0].readexactly(2) == b"cd"


async def test_the_end_of_the_proxy_is_the_end_of_what_it_holds(echo: Echo) -> None:
    async with Proxy(echo.url) as proxy, _client(proxy) as client:
        held = proxy.hold()
        proxy.stall()
        await _say(client, b"lost")
        await until(lambda: proxy.connections)
    assert not proxy.connections
    assert not held.has_happened


# --------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


async def test_the_proxy_can_be_the_end_of_encryption(
    echo: Echo, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with Proxy(echo.url, tls=server_tls) as proxy, _client(proxy, client_tls) as client:
        held = proxy.hold(after=1)
        assert await _ask(client, b"in the clear") == b"in the clear"
        assert echo.heard == b"in the clear"
        await _say(client, b"held")
        assert (await held.reached()).data == b"held"


async def test_a_client_of_postgresql_is_encrypted_as_far_as_the_proxy(
    postgres_url: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with Proxy(postgres_url, tls=server_tls) as proxy:
        connection = await asyncpg.connect(proxy.url, ssl=client_tls)
        names: list[str] = []
        proxy.on_message = lambda message: names.append(message.name)
        big = "x" * 1_000_000
        assert await connection.fetchval("SELECT $1::text", big) == big
        assert "Execute" in names
        await connection.close()
        unencrypted = await asyncpg.connect(proxy.url, ssl=False)
        assert await unencrypted.fetchval("SELECT 1") == 1
        await unencrypted.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncpg.connect(proxy.url, ssl=ssl.create_default_context())


# -------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest_asyncio.fixture
async def table(postgres_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection past the proxy, to look at a table with."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE t (n int)")
    yield connection
    await connection.close()


async def _numbers(table: "asyncpg.Connection[Any]") -> list[int]:
    return [row["n"] for row in await table.fetch("SELECT n FROM t ORDER BY n")]


@pytest.mark.parametrize("postgres_version", [16, 18])
@pytest.mark.parametrize("part", [0.0, 0.5])
async def test_an_insert_is_held_at_each_of_its_messages_and_is_not_there_until_the_last(
    postgres_url: str, table: "asyncpg.Connection[Any]", part: float
) -> None:
    reached: list[str] = []
    async with Proxy(postgres_url) as proxy:
        connection = await asyncpg.connect(proxy.url)
        for after in range(20):
            held = proxy.hold(after=after, part=part)
            insert = asyncio.ensure_future(connection.execute("INSERT INTO t VALUES ($1)", after))
            reaching = asyncio.ensure_future(held.reached())
            await asyncio.wait({insert, reaching}, return_when=asyncio.FIRST_COMPLETED)
            if insert.done():
                held.release()
                reaching.cancel()
                break
            reached.append((await reaching).name)
            assert after not in await _numbers(table)
            held.release()
            await insert
            assert after in await _numbers(table)
            # The statement was prepared with the first insert: forget that, so that each sends all of its messages.
            await connection.reload_schema_state()
            await connection.close()
            connection = await asyncpg.connect(proxy.url)
        await connection.close()
    assert reached == ["Parse", "Describe", "Flush", "Bind", "Execute", "Sync"]


async def test_an_answer_that_is_lost_is_that_of_an_insert_that_is_there(
    postgres_url: str, table: "asyncpg.Connection[Any]"
) -> None:
    async with Proxy(postgres_url) as proxy:
        connection = await asyncpg.connect(proxy.url)
        lost = proxy.lose_answer("Execute", after=1)
        await connection.execute("INSERT INTO t VALUES ($1)", 1)
        with pytest.raises(LOST):
            await connection.execute("INSERT INTO t VALUES ($1)", 2)
        await lost.happened()
        assert await _numbers(table) == [1, 2]


async def test_what_was_held_can_land_after_its_client_has_given_up(
    postgres_url: str, table: "asyncpg.Connection[Any]"
) -> None:
    async with Proxy(postgres_url) as proxy:
        connection = await asyncpg.connect(proxy.url)
        held = proxy.hold("Execute", part=0.5)
        insert = asyncio.ensure_future(connection.execute("INSERT INTO t VALUES ($1)", 1))
        await held.reached()
        held.cut_client()
        with pytest.raises(LOST):
            await insert
        assert await _numbers(table) == []
        held.release()
        await until(lambda: not proxy.connections)
        await held.answered()
        assert await _numbers(table) == [1]


# ----------------------------------------------------------------------------------------------------------- MongoDB


@asynccontextmanager
async def _mongo(url: str) -> AsyncGenerator["AsyncMongoClient[dict[str, Any]]"]:
    async with AsyncMongoClient[dict[str, Any]](
        f"{url}&w=majority&retryWrites=false&serverSelectionTimeoutMS=5000"
    ) as client:
        yield client


async def test_a_driver_of_mongodb_stays_at_the_proxy(mongodb_url: str) -> None:
    names: list[str] = []
    async with Proxy(mongodb_url) as proxy:
        proxy.on_message = lambda message: names.append(message.name)
        async with _mongo(proxy.url) as client:
            collection = client.get_default_database()["c"]
            await collection.insert_one({"_id": 1})
            assert "insert" in names
            proxy.refuse()
            proxy.cut()
            with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
                await collection.insert_one({"_id": 2})


@pytest.mark.parametrize("part", [0.0, 0.5])
async def test_an_insert_into_mongodb_is_held_whatever_the_driver_says_by_itself(
    mongodb_url: str, part: float
) -> None:
    async with Proxy(mongodb_url) as proxy, _mongo(proxy.url) as client, _mongo(mongodb_url) as past:
        held = proxy.hold(part=part)
        insert = asyncio.ensure_future(client.get_default_database()["c"].insert_one({"_id": 1}))
        assert (await held.reached()).name == "insert"
        assert await past.get_default_database()["c"].count_documents({}) == 0
        held.release()
        await insert
        assert await past.get_default_database()["c"].count_documents({}) == 1


async def test_an_answer_of_mongodb_that_is_lost_is_that_of_an_insert_that_is_there(mongodb_url: str) -> None:
    async with Proxy(mongodb_url) as proxy, _mongo(proxy.url) as client, _mongo(mongodb_url) as past:
        lost = proxy.lose_answer("insert")
        with pytest.raises(AutoReconnect):
            await client.get_default_database()["c"].insert_one({"_id": 1})
        await lost.happened()
        assert await past.get_default_database()["c"].count_documents({}) == 1


async def test_an_insert_into_mongodb_can_land_after_its_client_has_given_up(mongodb_url: str) -> None:
    async with Proxy(mongodb_url) as proxy, _mongo(proxy.url) as client, _mongo(mongodb_url) as past:
        held = proxy.hold("insert", part=0.5)
        insert = asyncio.ensure_future(client.get_default_database()["c"].insert_one({"_id": 1}))
        await held.reached()
        held.cut_client()
        with pytest.raises(AutoReconnect):
            await insert
        assert await past.get_default_database()["c"].count_documents({}) == 0
        held.release()
        await held.answered()
        assert await past.get_default_database()["c"].count_documents({}) == 1


# -------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("postgresql://u:p@h:1/db?ssl=prefer", "postgresql://u:p@127.0.0.1:PORT/db?ssl=prefer"),
        ("postgresql://h/db", "postgresql://127.0.0.1:PORT/db"),
        ("mongodb://a:1,b:2/db?replicaSet=rs", "mongodb://127.0.0.1:PORT/db?directConnection=true"),
        ("tcp://h:1", "tcp://127.0.0.1:PORT"),
    ],
)
async def test_the_url_of_a_proxy_is_that_of_its_server_at_another_place(url: str, through: str) -> None:
    proxy = Proxy(url)
    assert proxy.url == through.replace("PORT", str(proxy.port))
