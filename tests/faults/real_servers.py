"""What the fault tests know of the servers that they trouble: PostgreSQL and MongoDB in one way."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from rehydrate.testing.servers import MongoServer, PostgresServer
from rehydrate.testing.servers.databases import is_mongodb

Server: TypeAlias = PostgresServer | MongoServer

LIMIT = 120.0
"""Seconds after which a service that has not resumed by itself is taken for one that does not: these machines are busy."""

_IMPATIENT = {
    "postgresql": {"connect_timeout": 2, "statement_timeout": 1, "lock_timeout": 0.5, "poll": 0.05},
    "mongodb": {"timeout": 1, "poll": 0.05},
}
"""So that a test need not wait as long as a user would."""


def with_options(url: str, **options: object) -> str:
    """The same URL with these parameters, too."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query |= {name: str(value) for name, value in options.items()}
    return urlunsplit(parts._replace(query=urlencode(query)))


def impatient(url: str) -> str:
    """The same store, opened so that trouble is said soon."""
    return with_options(url, **_IMPATIENT["mongodb" if is_mongodb(url) else "postgresql"])
