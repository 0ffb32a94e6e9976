"""The PostgreSQL store: `postgresql://user@host/database`."""

from rehydrate.store.postgres.migration import migrate_postgres
from rehydrate.store.postgres.store import PostgresStore, open_postgres

__all__ = ["PostgresStore", "migrate_postgres", "open_postgres"]
