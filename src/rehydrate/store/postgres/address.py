"""Where the database is and how to use it, taken from the store's URL.

postgresql://ada:secret@db.example.com:5432/bank      a server; several: host1,host2:5433
postgresql:///bank?host=/run/postgresql               a folder with the server's socket

What the URL leaves out is taken from the variables of PostgreSQL's own tools: PGUSER, PGPASSWORD, PGSSLMODE, and so on.

schema=rehydrate        the schema that holds the tables; several applications may share a database
migrate=true            with `false` an older schema is refused, and `rehydrate migrate` brings it up to date
pool=4                  connections that read, at most; appends have one of their own, and so have notifications
replica=HOST:PORT       a standby that answers where the newest events need not be there yet
poll=0.2                seconds between two looks for events of other processes, while anybody waits for them
connect_timeout=10      seconds to wait for a connection
lock_timeout=5          seconds to wait for what somebody else has locked
statement_timeout=30    seconds that a statement may take
application_name=rehydrate   how the server's own views call these sessions
sslmode, sslrootcert, sslcert, sslkey, sslcrl, sslpassword, sslnegotiation, ssl_min_protocol_version   as in PostgreSQL's own tools
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.store_url import StoreUrl

DEFAULT_PORT: Final = 5432
MAX_POOL: Final = 1_000
MAX_SECONDS: Final = 86_400.0

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_SSL_MODES: Final = ("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SSL_WORDS: Final = ("sslpassword", "sslnegotiation", "ssl_min_protocol_version")


class Host(msgspec.Struct, frozen=True):
    """A server's name, or the folder of its socket, and its port."""

    name: str
    port: int = DEFAULT_PORT


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A database, the schema in it, and how its sessions behave."""

    shown: str
    """The URL without credentials and parameters."""
    hosts: tuple[Host, ...]
    """Empty: wherever PostgreSQL's own variables lead to."""
    replica: Host | None
    user: str | None
    password: str | None
    database: str | None
    schema: str
    migrate: bool
    pool: int
    poll: float
    connect_timeout: float
    lock_timeout: float
    statement_timeout: float
    application_name: str
    ssl: str
    """The parameters of TLS as the query of a URL."""

    def __repr__(self) -> str:
        return f"Address({self.shown}, schema={self.schema})"

    @property
    def place(self) -> str:
        """What a message calls it."""
        return f"{self.shown} (schema {self.schema})"

    @property
    def channel(self) -> str:
        """On which the procedures of this schema notify of appends."""
        return f"rehydrate {self.schema}"


def read_address(url: StoreUrl) -> Address:
    """Take a URL apart. Raises `ConfigurationError` for what it should not hold."""
    url.show("schema")
    socket_folder = url.text("host", default="")
    hosts = _hosts(url, url.host or socket_folder)
    if url.host and socket_folder:
        raise ConfigurationError(f"{url.shown}: host= is for a URL that names no host before its path")
    if "/" in url.path:
        raise ConfigurationError(f"{url.shown} names no database: postgresql://HOST/DATABASE")
    schema = url.text("schema", default="rehydrate")
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{url.shown}: schema={schema!r} must be at most 48 of the letters a-z, digits and underscores"
        )
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError(f"{url.shown}: schema={schema!r} is PostgreSQL's own: choose another name")
    replica = url.text("replica", default="")
    address = Address(
        shown=url.shown,
        hosts=hosts,
        replica=_host(url, replica) if replica else None,
        user=url.user,
        password=url.password,
        database=url.path or None,
        schema=schema,
        migrate=url.choice("migrate", ("true", "false"), default="true") == "true",
        pool=int(_at_most(url, "pool", url.number("pool", default=4, at_least=1), MAX_POOL)),
        poll=_seconds(url, "poll", 0.2),
        connect_timeout=_seconds(url, "connect_timeout", 10.0),
        lock_timeout=_seconds(url, "lock_timeout", 5.0),
        statement_timeout=_seconds(url, "statement_timeout", 30.0),
        application_name=url.text("application_name", default="rehydrate"),
        ssl=_ssl(url),
    )
    url.refuse_the_rest()
    return address


def _hosts(url: StoreUrl, text: str) -> tuple[Host, ...]:
    return tuple(_host(url, one) for one in text.split(",")) if text else ()


def _host(url: StoreUrl, text: str) -> Host:
    name, colon, port = text.rpartition(":")
    if not colon or name.endswith(":") or (text.startswith("[") and text.endswith("]")):
        name, port = text, str(DEFAULT_PORT)
    if name.startswith("["):
        name = name.strip("[]")
    if not name or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ConfigurationError(f"{url.shown}: {text!r} is not HOST or HOST:PORT")
    return Host(name, int(port))


def _ssl(url: StoreUrl) -> str:
    given = {"sslmode": url.choice("sslmode", _SSL_MODES, default="")}
    given |= {name: url.text(name, default="") for name in (*_SSL_FILES, *_SSL_WORDS)}
    for name in _SSL_FILES:
        if given[name] and not Path(given[name]).is_file():
            raise ConfigurationError(f"{url.shown}: {name}= names no file: {given[name]}")
    return urlencode({name: value for name, value in given.items() if value})


def _seconds(url: StoreUrl, name: str, default: float) -> float:
    return _at_most(url, name, url.seconds(name, default=default), MAX_SECONDS)


def _at_most(url: StoreUrl, name: str, value: float, limit: float) -> float:
    if value > limit:
        raise ConfigurationError(f"{url.shown}: {name}={value:g} must be at most {limit:g}")
    return value
