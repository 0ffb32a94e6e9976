"""Every table, index and statement of the SQLite store.

Positions and versions are given by the writer, in commit order and without gaps; a stream is an integer, for half the
rows of an index would otherwise be its name. An event, once written, is refused every change by the database itself, and
so is one that does not come right behind the last of its stream.

Each stream has a head, which leads to its last event. Each event leads to the one before it in its stream, as long as
that is not in the index; there they are put many at a time. So a commit changes few pages: heads lie close together, and
an index into which each event is put has a page for each stream.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from rehydrate.store.event_rows import BETWEEN_DATA

SCHEMA_VERSION: Final = 2
TABLES: Final = frozenset(
    {"meta", "streams", "events", "stream_heads", "stream_index", "snapshots", "checkpoints", "views"}
)
ADDED_TABLES: Final = frozenset({"stream_heads", "stream_index"})
"""What an older version does not have."""

_HEADS: Final = """
    CREATE TABLE stream_heads (stream INTEGER PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL)
"""
_STREAM_INDEX: Final = """
    CREATE TABLE stream_index (
        stream INTEGER NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (stream, version)
    ) WITHOUT ROWID
"""
# FAIL, because a statement that may have to be undone by itself keeps a journal. So whatever may fail comes first.
_FIRST_EVENT: Final = """
    CREATE TRIGGER events_begin_a_stream BEFORE INSERT ON events WHEN NEW.version = 1
    BEGIN
        SELECT RAISE(FAIL, 'there is nothing before the first event of a stream')
        WHERE NEW.previous <> 0 OR EXISTS (SELECT 1 FROM stream_heads WHERE stream = NEW.stream);
        SELECT RAISE(FAIL, 'an event comes behind the last one of the log')
        WHERE NEW.position <= coalesce((SELECT max(position) FROM events), 0);
        INSERT INTO stream_heads VALUES (NEW.stream, 1, NEW.position);
    END
"""
_NEXT_EVENT: Final = """
    CREATE TRIGGER events_follow_each_other BEFORE INSERT ON events WHEN NEW.version <> 1
    BEGIN
        UPDATE stream_heads SET version = NEW.version, position = NEW.position
        WHERE stream = NEW.stream AND version = NEW.version - 1 AND position < NEW.position AND CASE NEW.previous
            WHEN 0 THEN EXISTS (
                SELECT 1 FROM stream_index WHERE stream = NEW.stream AND version = NEW.version - 1
            )
            ELSE position = NEW.previous
        END;
        SELECT RAISE(FAIL, 'an event comes right behind the last one of its stream') WHERE changes() = 0;
    END
"""

CREATE: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        version INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        data BLOB NOT NULL,
        metadata BLOB NOT NULL,
        recorded_at INTEGER NOT NULL
    )
    """,
    _HEADS,
    _STREAM_INDEX,
    _FIRST_EVENT,
    _NEXT_EVENT,
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

MIGRATIONS: Final = (
    (
        # What a program that still runs inserts without it is refused.
        "ALTER TABLE events ADD COLUMN previous INTEGER NOT NULL DEFAULT -1",
        _STREAM_INDEX,
        "INSERT INTO stream_index SELECT stream, version, position FROM events ORDER BY stream, version",
        _HEADS,
        "INSERT INTO stream_heads SELECT stream, max(version), max(position) FROM stream_index GROUP BY stream",
        "DROP INDEX events_stream_version",
        _FIRST_EVENT,
        _NEXT_EVENT,
        "UPDATE meta SET value = '2' WHERE name = 'rehydrate schema'",
    ),
)
"""From each version to the next, beginning with 1."""

# ---- opening

HAS_TABLES: Final = "SELECT count(*) FROM sqlite_master"
HAS_META: Final = "SELECT count(*) FROM pragma_table_info('meta') WHERE name IN ('name', 'value')"
OWN_NAMES: Final = f"SELECT name FROM sqlite_master WHERE name IN {tuple(sorted(ADDED_TABLES))}"
READ_SCHEMA: Final = "SELECT value FROM meta WHERE name = 'rehydrate schema'"

HAS_STATISTICS: Final = "SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_stat1'"
_OF_OURS: Final = f"FROM sqlite_stat1 WHERE tbl IN {tuple(sorted(TABLES))}"
COUNT_STATISTICS: Final = f"SELECT count(*) {_OF_OURS}"
FORGET_STATISTICS: Final = f"DELETE {_OF_OURS}"
READ_STATISTICS: Final = "ANALYZE sqlite_master"

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
    SELECT streams.id, coalesce(head.version, 0), coalesce(events.id, ''), CASE
        WHEN EXISTS (
            SELECT 1 FROM stream_index AS indexed WHERE indexed.stream = streams.id AND indexed.version = head.version
        )
        THEN 0 ELSE coalesce(head.position, 0)
    END
    FROM streams
    LEFT JOIN stream_heads AS head ON head.stream = streams.id
    LEFT JOIN events ON events.position = head.position
    WHERE name = ?
"""
LEADING_TO: Final = """
    WITH RECURSIVE one (position, previous) AS (
        SELECT position, previous FROM events WHERE position = ?
        UNION ALL
        SELECT events.position, events.previous FROM one CROSS JOIN events ON events.position = one.previous
    )
    SELECT position FROM one ORDER BY position
"""
# OR FAIL: what was added before an error stays there, and goes with the transaction. By itself SQLite would keep a journal
# for each statement of several rows, and beyond 64 KiB in a file.
ADD_STREAM: Final = "INSERT OR FAIL INTO streams (id, name) VALUES (?, ?)"
ADD_EVENT: Final = """
    INSERT OR FAIL INTO events (position, stream, version, id, type, data, metadata, recorded_at, previous)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_INDEXED: Final = "INSERT OR FAIL INTO stream_index (stream, version, position) VALUES (?, ?, ?)"
MAX_ROWS: Final = 32
"""How many a statement adds at once: each statement gives the interpreter's lock away, and has to wait for it again."""


@cache
def add_rows(statement: str, count: int) -> str:
    """The statement for so many rows."""
    _, _, row = statement.rpartition("VALUES")
    return statement + f", {row.strip()}" * (count - 1)


SEAL: Final = """
    CREATE TRIGGER IF NOT EXISTS events_are_sealed BEFORE INSERT ON events
    BEGIN SELECT RAISE(ABORT, 'the store is sealed'); END
"""
"""The database itself refuses from now on, whatever program or version asks."""
IS_SEALED: Final = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'events_are_sealed'"

# ---- reading

# What is not in the index is found from the head of a stream backwards. A place that nothing leads on from is 0, where
# no event is. SQLite hands on a subquery with a limit in its order, and what it joins to each row after the other. No
# version is compared in the last join: for that SQLite may look at all events first.
_PAGE: Final = """
    WITH RECURSIVE asked (stream, version, head) AS (
        SELECT id, version, position FROM streams CROSS JOIN stream_heads ON stream = id WHERE name = :stream
    ),
    behind_the_index (position, previous, version) AS (
        SELECT events.position, previous, events.version FROM asked CROSS JOIN events ON events.position = head
        WHERE asked.version > :after AND NOT EXISTS (
            SELECT 1 FROM stream_index AS indexed
            WHERE indexed.stream = asked.stream AND indexed.version = asked.version
        )
        UNION ALL
        SELECT events.position, events.previous, events.version
        FROM behind_the_index AS one CROSS JOIN events ON events.position = one.previous
        WHERE one.version > :after + 1
    ),
    page (place) AS (
        SELECT * FROM (
            SELECT position FROM stream_index WHERE stream = (SELECT stream FROM asked) AND version > :after
            ORDER BY version LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (SELECT position FROM behind_the_index ORDER BY position LIMIT -1)
    )
"""
_ROWS: Final = "FROM page CROSS JOIN events ON position = place LIMIT :limit"
READ_STREAM: Final = f"{_PAGE} SELECT version, position, id, type, data, metadata, recorded_at {_ROWS}"
IDS_OF_STREAM: Final = f"{_PAGE} SELECT id, position {_ROWS}"
REPLAY: Final = f"{_PAGE} SELECT version, type, data, position, id {_ROWS}"
REPLAY_JOINED: Final = f"""
    {_PAGE}
    SELECT joined.events, versions, types, joined.data, first.id, last.id, last.position, last.type, length(last.data)
    FROM (
        SELECT count(*) AS events, group_concat(version - :after) AS versions, group_concat(type, char(10)) AS types,
               CAST(group_concat(data, x'{BETWEEN_DATA.hex()}') AS BLOB) AS data,
               min(position) AS begins, max(position) AS ends
        FROM (SELECT version, type, data, position {_ROWS})
    ) AS joined
    LEFT JOIN events AS first ON first.position = begins
    LEFT JOIN events AS last ON last.position = ends
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
_AGGREGATE: Final = "substr(streams.name, 1, instr(streams.name || '-', '-') - 1)"
_FILTERS: Final = {
    "streams": "AND +events.stream IN (SELECT id FROM streams WHERE name IN (SELECT value FROM json_each(?)))",
    "aggregates": f"AND {_AGGREGATE} IN (SELECT value FROM json_each(?))",
    "types": "AND type IN (SELECT value FROM json_each(?))",
    "without": (
        f"AND ({_AGGREGATE}, type) NOT IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
    ),
}


def read_all(filters: tuple[str, ...]) -> str:
    """The statement that reads a page of the log, with a parameter for each of the filters."""
    return _READ_ALL.format(filters=" ".join(_FILTERS[name] for name in filters))


LIST_STREAMS: Final = """
    SELECT name, version FROM streams CROSS JOIN stream_heads ON stream = id
    WHERE name >= ? AND name < ? ORDER BY name LIMIT ?
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
