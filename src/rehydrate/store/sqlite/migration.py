"""Making the tables, and bringing those of an older version up to date: one process does it, the others wait."""

from __future__ import annotations

import logging
import re
import sqlite3
from pathlib import Path
from typing import Final

from rehydrate.errors import ConfigurationError
from rehydrate.store.sqlite import schema

logger = logging.getLogger(__name__)

_NUMBER: Final = re.compile("[1-9][0-9]{0,8}")
_SHOWN: Final = 40


def schema_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables that are there, 0 where there are none.

    Raises `ConfigurationError` if they are another program's, or of a newer version. Nothing is written for this.
    """
    (tables,) = connection.execute(schema.HAS_TABLES).fetchone()
    if tables == 0:
        return 0
    (columns,) = connection.execute(schema.HAS_META).fetchone()
    row = connection.execute(schema.READ_SCHEMA).fetchone() if columns == 2 else None
    if row is None:
        raise ConfigurationError(f"{path} is a database of another program: choose another file")
    version = str(row[0])
    if version not in map(str, range(1, schema.SCHEMA_VERSION + 1)):
        if not _NUMBER.fullmatch(version):
            raise ConfigurationError(
                f"{path} says that its schema is {version[:_SHOWN]!r}, which no Rehydrate writes: bring it back from a copy"
            )
        raise ConfigurationError(
            f"{path} was written by a newer Rehydrate (schema {version}, this one knows {schema.SCHEMA_VERSION}): "
            "upgrade Rehydrate"
        )
    return int(version)


def check_schema(version: int, path: Path) -> None:
    """Raise `ConfigurationError` unless the tables are as this program needs them."""
    if version == 0:
        raise ConfigurationError(
            f"{path}: there is no store in this file; if it should be there, run `rehydrate migrate --store URL` first"
        )
    if version != schema.SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} is at schema {version}, and this program needs {schema.SCHEMA_VERSION}: run `rehydrate migrate "
            "--store URL` first"
        )


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> int:
    """Make the tables, or those that an older version has not, all or nothing; the version that was there, or 0."""
    connection.execute(schema.BEGIN_WRITE)
    try:
        version = schema_of(connection, path)  # Another process may have been faster.
        if version == 0:
            for statement in schema.CREATE:
                connection.execute(statement)
        elif version < schema.SCHEMA_VERSION:
            if (taken := connection.execute(schema.OWN_NAMES).fetchone()) is not None:
                raise ConfigurationError(
                    f"{path} has a table or index {taken[0]!r} that is not Rehydrate's, which needs the name: rename it"
                )
            (events,) = connection.execute(schema.LAST_POSITION).fetchone()
            logger.warning("%s: bringing %d events to schema %d", path, events, schema.SCHEMA_VERSION)
            for statements in schema.MIGRATIONS[version - 1 :]:
                for statement in statements:
                    connection.execute(statement)
        connection.execute(schema.COMMIT)
    except BaseException:
        if connection.in_transaction:
            connection.execute(schema.ROLLBACK)
        raise
    return version
