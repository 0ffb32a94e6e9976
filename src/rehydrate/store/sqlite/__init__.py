"""The SQLite store: `sqlite:///bank.db`."""

from rehydrate.store.sqlite.store import SqliteStore, migrate_sqlite, open_sqlite

__all__ = ["SqliteStore", "migrate_sqlite", "open_sqlite"]
