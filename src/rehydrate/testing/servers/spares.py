"""Empty databases of a PostgreSQL that many tests share, emptied and lent again: making one takes ten times as long.

A database that went back has another name, so that a client which its test forgot cannot come back into it.
"""

from __future__ import annotations

import secrets

from rehydrate.testing.servers.databases import ask, drop_database, fresh_database, with_database
from rehydrate.testing.servers.postgres import PostgresServer

_EMPTY = r"""
DO $$ DECLARE schema name; BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR schema IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema);
    END LOOP;
    CREATE SCHEMA public;
END $$
"""
_MADE = (
    *("pg_class", "pg_proc", "pg_extension", "pg_event_trigger", "pg_publication", "pg_largeobject_metadata"),
    *(
        "pg_default_acl",
        "pg_foreign_data_wrapper",
        "pg_cast",
        "pg_language",
        "pg_am",
        "pg_collation",
        "pg_type",
    ),
)
"""Catalogs of all that can be made in a database; what came with it has an oid below 16,384."""
_IS_EMPTY = f"""
SELECT {" AND ".join(f"NOT EXISTS (SELECT FROM {catalog} WHERE oid >= 16384)" for catalog in _MADE)}
    AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                    WHERE d.datname = current_database())
"""


class SpareDatabases:
    """Those of one server that nobody uses at the moment."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._urls: list[str] = []

    def take(self) -> str:
        """A URL of an empty database."""
        return self._urls.pop() if self._urls else fresh_database(self._server.url)

    def give_back(self, url: str) -> None:
        """Empty a database, whose connections are cut; one that does not get empty is dropped."""
        if not ask(url, _EMPTY, _IS_EMPTY):
            drop_database(url)
            return
        old, new = url.rpartition("/")[2], f"test_{secrets.token_hex(6)}"
        ask(self._server.url, f'ALTER DATABASE "{old}" RENAME TO "{new}"')
        self._urls.append(with_database(url, new))
