"""Every statement that the PostgreSQL store sends, but for the migrations.

Tables have no schema here: a session has one schema on its search path, that of the store. Every statement goes
along an index, also where the table was never analysed: the sessions of the store have `enable_seqscan` off. Lists go in and come out as JSON, for which the driver need not ask the server
about types first.
"""

from __future__ import annotations

from typing import Final

from rehydrate.store.event_rows import BETWEEN_DATA

# ---- opening

ABOUT: Final = """
    SELECT pg_backend_pid() AS pid,
           current_setting('server_version_num')::int AS server_version,
           current_setting('server_encoding') AS encoding,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('transaction_isolation') AS isolation,
           current_setting('standard_conforming_strings') AS strings,
           current_setting('client_min_messages') AS messages,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes
"""
COMMIT_SYNCHRONOUSLY: Final = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
"""
"""A server that waits for more than its own disk keeps on doing so."""

STILL_THERE: Final = "SELECT"

HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
CREATE_SCHEMA: Final = 'CREATE SCHEMA "{schema}"'
"""The name is checked: letters, digits and underscores; quoted, for it may be a word of SQL."""
HAS_TABLES: Final = """
    SELECT coalesce(bool_or(relname = 'events'), false) AS events,
           coalesce(bool_or(relname = 'migrations'), false) AS migrations
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1
"""
"""Not `to_regclass`: what a session once found missing, that may still not find after another one has made it."""
MIGRATED_TO: Final = "SELECT coalesce(max(version), 0) FROM migrations"
LOCK_MIGRATIONS: Final = "SELECT pg_advisory_xact_lock(1919248485, hashtext($1))"
CREATE_MIGRATIONS: Final = """
    CREATE TABLE IF NOT EXISTS migrations (
        version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
# Whoever comes meanwhile waits behind whoever waits for this lock.
LOCK_EVENTS: Final = "SET LOCAL lock_timeout = '100ms'; LOCK TABLE events IN ACCESS EXCLUSIVE MODE"
MIGRATED: Final = "INSERT INTO migrations (version) VALUES ($1)"

# ---- appending

APPEND_KNOWN: Final = "CALL append_known($1, $2, $3)"
APPEND_EXPECTING: Final = "CALL append_expecting($1, $2, $3, $4, NULL)"
APPEND_ONE: Final = "CALL append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
APPEND_LOCKED: Final = "CALL append_locked($1, $2, $3, $4, NULL, NULL, NULL, NULL)"
SEAL: Final = "CALL seal()"
WHO_BLOCKS: Final = """
    SELECT pid, application_name FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1)) ORDER BY pid
"""

# ---- reading: a page ends with the event that brings its data and metadata up to so many bytes, which is then full

_FIRST_OF: Final = "(SELECT f.position FROM events AS f WHERE f.stream = {} AND f.version = 1)"
"""The number of a stream: the position of its first event."""
READ_STREAM: Final = f"""
    SELECT version, position, id, type, data, metadata, recorded_at, bytes >= $4 AS is_full FROM (
        SELECT version, position, id, type, data, metadata, recorded_at,
               octet_length(data) + octet_length(metadata) AS size,
               sum(octet_length(data) + octet_length(metadata)) OVER (ORDER BY version ROWS UNBOUNDED PRECEDING) AS bytes
        FROM events WHERE first = {_FIRST_OF.format("$1")} AND version > $2 ORDER BY version LIMIT $3
    ) AS page WHERE bytes - size < $4 ORDER BY version
"""
# A page of each stream of a JSON list of [stream, after]. Its data as one value, which the driver takes apart three times
# as fast as rows.
REPLAY: Final = f"""
    SELECT page.*, oldest.id, newest.id, newest.position
    FROM jsonb_array_elements($1) WITH ORDINALITY AS asked(question, n)
    CROSS JOIN LATERAL (SELECT {_FIRST_OF.format("question->>0")} AS first OFFSET 0) AS stream
    CROSS JOIN LATERAL (
        SELECT count(*) AS events, min(version) AS oldest, max(version) AS newest,
               array_agg(type ORDER BY version), string_agg(data, '\\x{BETWEEN_DATA.hex()}' ORDER BY version), max(bytes)
        FROM (
            SELECT version, type, data, octet_length(data) AS size,
                   sum(octet_length(data)) OVER (ORDER BY version ROWS UNBOUNDED PRECEDING) AS bytes
            FROM events WHERE first = stream.first AND version > (question->>1)::bigint ORDER BY version LIMIT $2
        ) AS counted WHERE bytes - size < $3
    ) AS page
    LEFT JOIN events AS oldest ON oldest.first = stream.first AND oldest.version = page.oldest
    LEFT JOIN events AS newest ON newest.first = stream.first AND newest.version = page.newest
    ORDER BY n
"""
# The same, and what the id of the event before the page is by now.
READ_ON: Final = f"""
    SELECT page.*, (
        SELECT id FROM events WHERE first = {_FIRST_OF.format("$1->0->>0")} AND version = ($1->0->>1)::bigint
    )
    FROM ({REPLAY}) AS page
"""
# A number is always above 0. But where a column is not used, PostgreSQL takes each row apart to leave it out, and the page
# takes it a third longer.
READ_ALL: Final = """
    SELECT stream, version, position, id, type, data, metadata, recorded_at, bytes >= $3 AS is_full FROM (
        SELECT *, octet_length(data) + octet_length(metadata) AS size,
               sum(octet_length(data) + octet_length(metadata)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
        FROM events WHERE position > $1 ORDER BY position LIMIT $2
    ) AS page WHERE bytes - size < $3 AND first > 0 ORDER BY position
"""
# A filter is a JSON list of names, or NULL. Positions have no gaps here, as docs/postgresql.md shows, so a range of them
# bounds how much is looked at, and there is an event at its end. One
# statement, so that the end of the log and what is before it are of one moment. `IN (SELECT ...)` below an OR is a
# hashed list to look each name up in; where it could become a join it might not go along the positions.
READ_FILTERED: Final = """
    SELECT found.*, ends.head, ends.upto, ends.upto_id FROM (
        SELECT newest.position AS head, last.position AS upto, last.id AS upto_id
        FROM (SELECT position FROM events ORDER BY position DESC LIMIT 1) AS newest
        JOIN events AS last ON last.position = least(newest.position, $4)
    ) AS ends
    LEFT JOIN LATERAL (
        SELECT stream, version, position, id, type, data, metadata, recorded_at, bytes >= $3 AS is_full FROM (
            SELECT *, octet_length(data) + octet_length(metadata) AS size,
                   sum(octet_length(data) + octet_length(metadata)) OVER (
                       ORDER BY position ROWS UNBOUNDED PRECEDING
                   ) AS bytes
            FROM events
            WHERE position > $1 AND position <= ends.upto
                AND ($5::jsonb IS NULL OR stream IN (SELECT jsonb_array_elements_text($5)))
                AND ($6::jsonb IS NULL OR split_part(stream, '-', 1) IN (SELECT jsonb_array_elements_text($6)))
                AND ($7::jsonb IS NULL OR type IN (SELECT jsonb_array_elements_text($7)))
                AND ($8::jsonb IS NULL OR (split_part(stream, '-', 1), type) NOT IN (
                    SELECT pair ->> 0, pair ->> 1 FROM jsonb_array_elements($8) AS pair
                ))
            ORDER BY position LIMIT $2
        ) AS page WHERE bytes - size < $3 AND first > 0
    ) AS found ON true
    ORDER BY found.position
"""

HEAD: Final = "SELECT position, id FROM events ORDER BY position DESC LIMIT 1"
ENDS: Final = f"""
    SELECT coalesce(last.version, 0), coalesce(last.id, '')
    FROM jsonb_array_elements_text($1) WITH ORDINALITY AS asked(stream, n)
    LEFT JOIN LATERAL (
        SELECT e.version, e.id FROM events AS e WHERE e.first = {_FIRST_OF.format("asked.stream")}
        ORDER BY e.version DESC LIMIT 1
    ) AS last ON true
    ORDER BY n
"""
LIST_STREAMS: Final = """
    SELECT stream, (SELECT e.version FROM events AS e WHERE e.first = page.position ORDER BY e.version DESC LIMIT 1)
    FROM (
        SELECT stream, position FROM events
        WHERE version = 1 AND stream > $1 AND stream >= $2 AND stream < $3 ORDER BY stream LIMIT $4
    ) AS page ORDER BY stream
"""

# ---- snapshots

SAVE_SNAPSHOT: Final = "CALL save_snapshot($1, $2, $3, $4, $5, $6, $7, $8, $9)"
LOAD_SNAPSHOTS: Final = """
    SELECT newest.* FROM jsonb_array_elements_text($1) WITH ORDINALITY AS asked(name, n)
    LEFT JOIN LATERAL (
        SELECT stream, version, position, event_id, schema, fingerprint, data, recorded_at
        FROM snapshots WHERE stream = asked.name ORDER BY version DESC LIMIT 1
    ) AS newest ON true
    ORDER BY n
"""
DELETE_SNAPSHOTS: Final = "CALL delete_snapshots($1)"

# ---- checkpoints and views

LOAD_CHECKPOINT: Final = "SELECT name, position, event_id, epoch, data FROM checkpoints WHERE name = $1"
LIST_CHECKPOINTS: Final = "SELECT name, position, event_id, epoch, data FROM checkpoints ORDER BY name"
SAVE_CHECKPOINT: Final = "CALL save_checkpoint($1, $2, $3, $4, $5, $6, $7, $8, NULL)"
# In a transaction that is open already, which a procedure cannot be called in that commits.
BEGIN_CHECKPOINT: Final = """
    INSERT INTO checkpoints (name, position, event_id, epoch, data) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING RETURNING true
"""
MOVE_CHECKPOINT: Final = """
    UPDATE checkpoints SET position = $2, event_id = $3, epoch = $4, data = $5
    WHERE name = $1 AND position = $6 AND epoch = $7 RETURNING true
"""
SAVE_VIEW: Final = """
    INSERT INTO views (name, key, data) VALUES ($1, $2, $3) ON CONFLICT (name, key) DO UPDATE SET data = excluded.data
"""
REMOVE_VIEW: Final = "DELETE FROM views WHERE name = $1 AND key = $2"
AS_USERS_DO: Final = """
    SET LOCAL search_path = "$user", public; SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on
"""
"""Settings of a session that the store made for itself, for statements of the user's own."""
RESET_CHECKPOINT: Final = "CALL reset_checkpoint($1)"
REMOVE_CHECKPOINT: Final = "CALL remove_checkpoint($1)"
LOAD_VIEW: Final = "SELECT data FROM views WHERE name = $1 AND key = $2"
LOAD_VIEWS: Final = "SELECT key, data FROM views WHERE name = $1 AND key = ANY($2::text[])"
LIST_VIEWS: Final = """
    SELECT key, data FROM views WHERE name = $1 AND key > $2 AND key >= $3 AND key < $4 ORDER BY key LIMIT $5
"""
