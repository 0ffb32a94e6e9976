"""A fresh, empty database on a server, be it ours or yours, and its removal.

The drivers' own event loops and threads stay out of the test: the work is done in a thread that ends with it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from rehydrate.nats.address import NatsAddress, read_nats_address
from rehydrate.store_url import StoreUrl
from rehydrate.testing.servers.found import ServerNotFoundError

if TYPE_CHECKING:
    from pymongo import MongoClient

T = TypeVar("T")

_PATIENCE = 30.0
"""Seconds to wait for a server of yours, which may be far away."""


def fresh_database(url: str) -> str:
    """A URL of a database that did not exist before, on the server of this URL, whose user may create one."""
    name = f"test_{secrets.token_hex(6)}"
    if not is_mongodb(url) and not is_nats(url):
        ask(url, f'CREATE DATABASE "{name}"')
    return with_database(url, name)


def drop_database(url: str) -> None:
    """Drop a database that `fresh_database` made, also while somebody is connected to it.

    Of NATS these are all JetStream streams whose names hold that of the database.
    """
    name = urlsplit(url).path.strip("/")
    if not name.startswith("test_"):
        raise ValueError("this database was not made by `fresh_database`")
    if is_mongodb(url):
        _drop_collections(url, name)
    elif is_nats(url):
        _delete_streams(url, name)
    else:
        ask(with_database(url, "postgres"), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def database_on(server: str) -> Generator[str]:
    """A fresh database, which is dropped at the end of `with`."""
    url = fresh_database(server)
    try:
        yield url
    finally:
        drop_database(url)


def with_database(url: str, name: str) -> str:
    """The same server, and another database."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if is_mongodb(url) and parts.username:
        # Without it the database that the URL names is the one that knows the user.
        options.setdefault("authSource", parts.path.strip("/") or "admin")
    return urlunsplit(parts._replace(path=f"/{quote(name)}", query=urlencode(options)))


def is_mongodb(url: str) -> bool:
    return urlsplit(url).scheme.startswith("mongodb")


def is_nats(url: str) -> bool:
    return urlsplit(url).scheme == "nats"


def _no_driver(server: str, extra: str) -> ServerNotFoundError:
    return ServerNotFoundError(
        f"{server} cannot be talked to without its driver: pip install 'rehydrate[testing,{extra}]'"
    )


def mongo_client(url: str, *, patience: int = 10_000) -> MongoClient[dict[str, Any]]:
    """A client that waits so many milliseconds for a server and its answer; to be closed."""
    try:
        from pymongo import MongoClient
    except ImportError as error:
        raise _no_driver("MongoDB", "mongodb") from error
    return MongoClient(url, serverSelectionTimeoutMS=patience, socketTimeoutMS=patience)


def _drop_collections(url: str, name: str) -> None:
    """One by one, and without waiting for a majority: to drop the database takes fifty times as long."""
    from pymongo import WriteConcern

    with mongo_client(url) as client:
        database = client.get_database(name, write_concern=WriteConcern(w=1))
        for collection in database.list_collection_names():
            if not collection.startswith("system."):
                database.drop_collection(collection)


def _delete_streams(url: str, name: str) -> None:
    _in_a_thread(_delete_streams_of(read_nats_address(StoreUrl(url)), name))


async def _delete_streams_of(address: NatsAddress, name: str) -> None:
    try:
        from nats.aio.client import Client
    except ImportError as error:
        raise _no_driver("NATS", "nats") from error
    client = Client()
    try:
        await client.connect(  # pyright: ignore[reportUnknownMemberType]
            list(address.servers),
            user=address.user,
            password=address.password,
            token=address.token,
            tls=address.ssl_context() if address.tls else None,
            connect_timeout=int(_PATIENCE),
        )
        stored = client.jetstream(timeout=_PATIENCE)  # pyright: ignore[reportUnknownMemberType]
        names = [info.config.name or "" for info in await stored.streams_info()]
        for its_name in names:
            if name in its_name:
                await stored.delete_stream(its_name)
    finally:
        await client.close()


def ask(url: str, *statements: str) -> Any:
    """Run statements on a PostgreSQL, in a connection of its own; the first value that the last of them gives."""
    try:
        import asyncpg
    except ImportError as error:
        raise _no_driver("PostgreSQL", "postgres") from error

    async def answer() -> Any:
        connection = await asyncpg.connect(url, timeout=_PATIENCE)
        try:
            *before, last = statements
            for statement in before:
                await connection.execute(statement)
            return await connection.fetchval(last)
        finally:
            await connection.close()

    return _in_a_thread(answer())


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
