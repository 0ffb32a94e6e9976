"""Every table, index and statement of the SQLite store.

Positions and versions are given by the writer, in commit order and without gaps; a stream is an integer, for half the
rows of an index would otherwise be its name. An event, once written, is refused every change by the database itself.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from rehydrate.store.event_rows import BETWEEN_DATA

SCHEMA_VERSION: Final = 1
TABLES: Final = frozenset({"meta", "streams", "events", "snapshots", "checkpoints", "views"})

CREATE: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        version INTEGER NOT NULL,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        data BLOB NOT NULL,
        metadata BLOB NOT NULL,
        recorded_at INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX events_stream_version ON events (stream, version)",
    """
    CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END
    """,
    """
    CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END
    """,
    """
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
    )
    """,
    """
    CREATE TABLE checkpoints (
        name TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        data BLOB NOT NULL
    )
    """,
    "CREATE TABLE views (name TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (name, key))",
    f"INSERT INTO meta VALUES ('rehydrate schema', '{SCHEMA_VERSION}')",
)

# ---- opening

HAS_TABLES: Final = "SELECT count(*) FROM sqlite_master"
HAS_META: Final = "SELECT count(*) FROM pragma_table_info('meta') WHERE name IN ('name', 'value')"
READ_SCHEMA: Final = "SELECT value FROM meta WHERE name = 'rehydrate schema'"

# ---- transactions

BEGIN_READ: Final = "BEGIN"
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"
"""Takes the lock before anything is read: a later upgrade of a read could be refused."""
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
DATA_VERSION: Final = "PRAGMA data_version"
"""Changes when somebody else has committed, in this process or another."""
MOVE_LOG: Final = "PRAGMA wal_checkpoint(PASSIVE)"
"""Moves what no reader needs from the log of writes into the database, and waits for nobody."""
FORGET_PAGES: Final = "PRAGMA shrink_memory"
"""Empties the connection's cache of pages."""

# ---- appending

LAST_POSITION: Final = "SELECT coalesce(max(position), 0) FROM events"
LAST_STREAM: Final = "SELECT coalesce(max(id), 0) FROM streams"
FIND_STREAM: Final = """
    SELECT streams.id, coalesce(version, 0), coalesce(events.id, '')
    FROM streams LEFT JOIN events ON events.stream = streams.id WHERE name = ? ORDER BY version DESC LIMIT 1
"""
# OR FAIL: what was added before an error stays there, and goes with the transaction. By itself SQLite would keep a journal
# for each statement of several rows, and beyond 64 KiB in a file.
ADD_STREAM: Final = "INSERT OR FAIL INTO streams (id, name) VALUES (?, ?)"
ADD_EVENT: Final = """
    INSERT OR FAIL INTO events (position, stream, version, id, type, data, metadata, recorded_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
MAX_ROWS: Final = 32
"""How many a statement adds at once: each statement gives the interpreter's lock away, and has to wait for it again."""


@cache
def add_rows(statement: str, count: int) -> str:
    """The statement for so many rows."""
    _, _, row = statement.rpartition("VALUES")
    return statement + f", {row.strip()}" * (count - 1)


IDS_OF_STREAM: Final = """
    SELECT id, position FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?
"""

SEAL: Final = """
    CREATE TRIGGER IF NOT EXISTS events_are_sealed BEFORE INSERT ON events
    BEGIN SELECT RAISE(ABORT, 'the store is sealed'); END
"""
"""The database itself refuses from now on, whatever program or version asks."""
IS_SEALED: Final = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'events_are_sealed'"

# ---- reading

READ_STREAM: Final = """
    SELECT version, position, id, type, data, metadata, recorded_at
    FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version > ? ORDER BY version LIMIT ?
"""
REPLAY: Final = """
    SELECT version, type, data
    FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version > ? ORDER BY version LIMIT ?
"""
# SQLite hands on a subquery with a limit in its order; the versions show that it has.
REPLAY_JOINED: Final = f"""
    SELECT page.*, first.id, last.id, last.position, last.type, length(last.data)
    FROM (SELECT id FROM streams WHERE name = ?) AS asked
    JOIN (
        SELECT count(*) AS events, group_concat(version - ?), group_concat(type, char(10)),
               CAST(group_concat(data, x'{BETWEEN_DATA.hex()}') AS BLOB)
        FROM (
            SELECT version, type, data
            FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version > ?
            ORDER BY version LIMIT ?
        )
    ) AS page
    LEFT JOIN events AS first ON first.stream = asked.id AND first.version = ?
    LEFT JOIN events AS last ON last.stream = asked.id AND last.version = ? + page.events
"""
ENDS_OF_REPLAY: Final = """
    SELECT id, position
    FROM events WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version IN (?, ?) ORDER BY version
"""
HEAD: Final = "SELECT position, id FROM events ORDER BY position DESC LIMIT 1"
EVENT_ID: Final = "SELECT id FROM events WHERE position = ?"
# Always along the positions, whatever the planner thinks of other ways: CROSS keeps the order of the join, and + keeps
# it from taking the streams one by one and sorting. The range of positions bounds what is looked at.
_READ_ALL: Final = """
    SELECT streams.name, version, position, events.id, type, data, metadata, recorded_at
    FROM events CROSS JOIN streams ON streams.id = events.stream
    WHERE position > ? AND position <= ? {filters} ORDER BY position LIMIT ?
"""
_FILTERS: Final = {
    "streams": "AND +events.stream IN (SELECT id FROM streams WHERE name IN (SELECT value FROM json_each(?)))",
    "aggregates": (
        "AND substr(streams.name, 1, instr(streams.name || '-', '-') - 1) IN (SELECT value FROM json_each(?))"
    ),
    "types": "AND type IN (SELECT value FROM json_each(?))",
}


def read_all(filters: tuple[str, ...]) -> str:
    """The statement that reads a page of the log, with a parameter for each of the filters."""
    return _READ_ALL.format(filters=" ".join(_FILTERS[name] for name in filters))


LIST_STREAMS: Final = """
    SELECT name, (SELECT max(version) FROM events WHERE stream = streams.id)
    FROM streams WHERE name >= ? AND name < ? ORDER BY name LIMIT ?
"""

# ---- snapshots

NEWEST_SNAPSHOT: Final = "SELECT coalesce(max(version), 0) FROM snapshots WHERE stream = ?"
SAVE_SNAPSHOT: Final = """
    INSERT OR REPLACE INTO snapshots (stream, version, position, event_id, schema, fingerprint, data, recorded_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
KEEP_SNAPSHOTS: Final = """
    DELETE FROM snapshots WHERE stream = ? AND version <
        (SELECT min(version) FROM (SELECT version FROM snapshots WHERE stream = ? ORDER BY version DESC LIMIT ?))
"""
LOAD_SNAPSHOT: Final = """
    SELECT stream, version, position, event_id, schema, fingerprint, data, recorded_at
    FROM snapshots WHERE stream = ? ORDER BY version DESC LIMIT 1
"""
DELETE_SNAPSHOTS: Final = "DELETE FROM snapshots WHERE stream = ?"

# ---- checkpoints and views

LOAD_CHECKPOINT: Final = "SELECT name, position, event_id, epoch, data FROM checkpoints WHERE name = ?"
LIST_CHECKPOINTS: Final = "SELECT name, position, event_id, epoch, data FROM checkpoints ORDER BY name"
SAVE_CHECKPOINT: Final = """
    INSERT OR REPLACE INTO checkpoints (name, position, event_id, epoch, data) VALUES (?, ?, ?, ?, ?)
"""
RESET_CHECKPOINT: Final = """
    UPDATE checkpoints SET position = 0, event_id = '', epoch = epoch + 1, data = x'' WHERE name = ?
"""
REMOVE_CHECKPOINT: Final = "DELETE FROM checkpoints WHERE name = ?"
SAVE_VIEW: Final = "INSERT OR REPLACE INTO views (name, key, data) VALUES (?, ?, ?)"
REMOVE_VIEW: Final = "DELETE FROM views WHERE name = ? AND key = ?"
REMOVE_VIEWS: Final = "DELETE FROM views WHERE name = ?"
LOAD_VIEW: Final = "SELECT data FROM views WHERE name = ? AND key = ?"
LIST_VIEWS: Final = "SELECT key, data FROM views WHERE name = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
