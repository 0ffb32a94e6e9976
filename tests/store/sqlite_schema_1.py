"""A SQLite store as its first version wrote it: what a program of today finds on somebody's disk."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    data BLOB NOT NULL,
    metadata BLOB NOT NULL,
    recorded_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX events_stream_version ON events (stream, version);
CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END;
CREATE TABLE snapshots (
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    schema INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    data BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (stream, version)
);
CREATE TABLE checkpoints (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE views (name TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (name, key));
INSERT INTO meta VALUES ('rehydrate schema', '1');
"""
ADD_EVENT = """
    INSERT OR FAIL INTO events (position, stream, version, id, type, data, metadata, recorded_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def write_schema_1(path: Path, streams: Mapping[str, int]) -> None:
    """A file with so many events in each stream, one of each after the other."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
        connection.executemany("INSERT INTO streams VALUES (?, ?)", enumerate(streams, 1))
        rounds = range(1, max(streams.values(), default=0) + 1)
        events = [
            (key, version)
            for version in rounds
            for key, count in enumerate(streams.values(), 1)
            if version <= count
        ]
        connection.executemany(
            ADD_EVENT,
            [
                (position, key, version, f"{key}.{version}", "Deposited", b'{"amount":1}', b"{}", position)
                for position, (key, version) in enumerate(events, 1)
            ],
        )
        connection.commit()
