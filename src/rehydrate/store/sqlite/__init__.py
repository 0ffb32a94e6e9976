"""The SQLite store: `sqlite:///bank.db`."""

from rehydrate.store.sqlite.store import SqliteStore, open_sqlite

__all__ = ["SqliteStore", "open_sqlite"]
