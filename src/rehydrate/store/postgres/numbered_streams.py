"""The third migration of the PostgreSQL store: the index of streams is one of numbers, no longer of names."""

from __future__ import annotations

from typing import Final

# A stream has a number: the position of its first event. The index of streams is of numbers, and so far smaller than one of
# names, and what of it a group of many streams needs stays in the processor's cache for longer: in a log of a million
# events a group takes a tenth less time. Every event keeps the name of its stream, too, so the log is read without a join;
# the names by themselves, one for each stream, are a small index of first events.
#
# An update, for `ALTER COLUMN ... USING` would write a table anew in which whoever took his snapshot before, as `pg_dump`
# does, and waits for the lock, finds no event at all.
_NUMBERS: Final = """
SET LOCAL enable_seqscan = on;
SET LOCAL enable_nestloop = off;
CREATE TABLE firsts AS SELECT stream, position FROM events WHERE version = 1;
ANALYZE firsts;
DO $$
DECLARE
    torn text := (
        SELECT min(stream) FROM events AS e WHERE NOT EXISTS (SELECT FROM firsts AS f WHERE f.stream = e.stream)
    );
BEGIN
    IF torn IS NOT NULL THEN
        RAISE EXCEPTION 'stream % has lost its first event; restore it before this schema is brought up to date', torn
            USING ERRCODE = 'data_corrupted';
    END IF;
END $$;
ALTER TABLE events ADD COLUMN first bigint, DISABLE TRIGGER events_are_never_changed;
UPDATE events SET first = firsts.position FROM firsts WHERE firsts.stream = events.stream;
ALTER TABLE events
    ENABLE TRIGGER events_are_never_changed,
    ALTER COLUMN first SET NOT NULL,
    ADD CHECK (first > 0 AND (version > 1 OR first = position));
CREATE UNIQUE INDEX events_first_version ON events (first, version);
CREATE UNIQUE INDEX events_streams ON events (stream) INCLUDE (position) WHERE version = 1;
DROP TABLE firsts;
"""

_DONE: Final = """
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the last event that the writer knows is gone' USING ERRCODE = 'RHY03';
    END IF;
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('rehydrate ' || current_schema(), '');
    END IF;
    COMMIT;
END $$;
"""
_INSERT: Final = """
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT known + n, v->>0, (v->>1)::bigint, v->>2, v->>3,
           decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint,
           {first}
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n)
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
"""
_GIVEN: Final = "(v->>7)::bigint"

# The optimistic way: no lock. The writer has given the positions itself, right behind the last event that it knows,
# and whoever was there first makes all of it fail. A row is [stream, version, id, type, data, metadata, recorded at, first].
_APPEND_KNOWN: Final = f"""
CREATE PROCEDURE append_known(known bigint, known_id text, new_events jsonb) LANGUAGE plpgsql AS $$
BEGIN{_INSERT.format(first=_GIVEN)}{_DONE}"""

# The same where not all is known. `expected` names events [stream, version, id, position] that must be there; an empty id is
# any, and a position only says where to look first: by the name of its stream takes longer. A first of -n is that of the
# stream of the nth of them, and `firsts` are all of those. Whoever answers with a row has to keep it until its transaction
# has ended, so this is for streams that a writer meets for the first time.
_APPEND_EXPECTING: Final = f"""
CREATE PROCEDURE append_expecting(
    known bigint, known_id text, expected jsonb, new_events jsonb, INOUT firsts jsonb
) LANGUAGE plpgsql AS $$
BEGIN
    -- A subquery of this kind is never made a join, which might not go along the index.
    SELECT jsonb_agg(coalesce((
        SELECT e.first FROM events AS e
        WHERE e.position = (v->>3)::bigint AND e.stream = v->>0 AND e.version = (v->>1)::bigint AND v->>2 IN ('', e.id)
    ), (
        SELECT e.first FROM events AS e
        WHERE e.first = (SELECT f.position FROM events AS f WHERE f.stream = v->>0 AND f.version = 1)
            AND e.version = (v->>1)::bigint AND v->>2 IN ('', e.id)
    )) ORDER BY n) INTO firsts
    FROM jsonb_array_elements(expected) WITH ORDINALITY AS one(v, n);
    IF firsts @> '[null]' THEN
        RAISE EXCEPTION 'a stream does not stand where an append expects it' USING ERRCODE = 'RHY03';
    END IF;{_INSERT.format(first=f"CASE WHEN {_GIVEN} > 0 THEN {_GIVEN} ELSE (firsts->>(-1 - (v->>7)::int))::bigint END")}{_DONE}"""

# The same as `append_known` for a single event, which many an append is: it need not go through JSON.
_APPEND_ONE: Final = f"""
CREATE PROCEDURE append_one(
    known bigint, known_id text, its_stream text, its_version bigint, its_id text, its_type text, its_data bytea,
    its_metadata bytea, its_recorded_at bigint, its_first bigint
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT known + 1, its_stream, its_version, its_id, its_type, its_data, its_metadata, its_recorded_at, its_first
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);{_DONE}"""
# The locked way as above, but that it finds streams by their numbers.
_APPEND_LOCKED: Final = """
CREATE OR REPLACE PROCEDURE append_locked(
    INOUT known bigint, INOUT known_id text, appends jsonb, new_events jsonb,
    INOUT still_there boolean, INOUT is_sealed boolean, INOUT heads jsonb, INOUT repeated_at jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    fits boolean[];
    firsts bigint[];
    is_first boolean := known = 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1919248484, 'events'::regclass::oid::int);
    still_there := known = 0 OR EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
    SELECT position, id INTO known, known_id FROM events ORDER BY position DESC LIMIT 1;
    known := coalesce(known, 0);
    is_sealed := EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'events'::regclass AND tgname = 'events_are_sealed'
    );

    SELECT jsonb_agg(jsonb_build_array(coalesce(head, 0), coalesce(head_id, '')) ORDER BY n),
           array_agg(coalesce(head, 0) = wanted AND (wanted_id = '' OR coalesce(head_id, wanted_id) = wanted_id) ORDER BY n),
           array_agg(first ORDER BY n)
    INTO heads, fits, firsts
    FROM (
        SELECT n, (v->>1)::bigint AS wanted, v->>2 AS wanted_id, last.version AS head, last.id AS head_id, last.first
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS append(v, n)
        LEFT JOIN LATERAL (
            SELECT e.version, e.id, e.first FROM events AS e
            WHERE e.first = (SELECT f.position FROM events AS f WHERE f.stream = v->>0 AND f.version = 1)
            ORDER BY e.version DESC LIMIT 1
        ) AS last ON true
    ) AS found;

    -- An append that stands where it expects to stand was stored before: where is its last event?
    repeated_at := NULL;
    IF false = ANY (fits) THEN
        SELECT jsonb_agg(CASE WHEN there = all_of_it THEN last END ORDER BY k) INTO repeated_at
        FROM (
            SELECT k, count(*) AS all_of_it, count(position) AS there, max(position) AS last
            FROM (
                SELECT (v->>7)::int AS k, CASE WHEN NOT fits[(v->>7)::int] THEN (
                    SELECT e.position FROM events AS e
                    WHERE e.first = firsts[(v->>7)::int] AND e.version = (v->>1)::bigint AND e.id = v->>2
                ) END AS position
                FROM jsonb_array_elements(new_events) AS new_event(v)
            ) AS event_by_event
            GROUP BY k
        ) AS append_by_append;
    END IF;

    IF NOT is_sealed AND true = ANY (fits) THEN
        INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
        SELECT known + k, v->>0, (v->>1)::bigint, v->>2, v->>3,
               decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint,
               coalesce(firsts[(v->>7)::int], known + k + 1 - (v->>1)::bigint)
        FROM (
            SELECT v, row_number() OVER (ORDER BY n) AS k
            FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n)
            WHERE fits[(v->>7)::int]
        ) AS fitting;
        PERFORM notify_of_append();
    ELSIF (is_first OR jsonb_path_exists(repeated_at, '$[*] ? (@ != null)')) AND NOT pg_is_in_recovery() THEN
        PERFORM pg_logical_emit_message(true, 'rehydrate', '');
    END IF;
    COMMIT;
END $$;
"""

# What programs call that knew the schema before streams had numbers, and still run.
_FOR_OLDER_PROGRAMS: Final = """
CREATE FUNCTION insert_by_name(known bigint, known_id text, new_events jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    stored bigint;
BEGIN
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT known + n, v->>0, (v->>1)::bigint, v->>2, v->>3,
           decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint,
           CASE WHEN (v->>1)::bigint = 1 THEN known + n ELSE coalesce(
               (SELECT f.position FROM events AS f WHERE f.stream = v->>0 AND f.version = 1),
               known + n + 1 - (v->>1)::bigint
           ) END
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n)
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF stored > 0 THEN
        PERFORM notify_of_append();
    END IF;
    RETURN stored;
END $$;

CREATE FUNCTION are_there(expected jsonb) RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN expected IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_array_elements(expected) AS one(v)
        WHERE coalesce((
            SELECT e.id <> v->>2 AND v->>2 <> '' FROM events AS e
            WHERE e.first = (SELECT f.position FROM events AS f WHERE f.stream = v->>0 AND f.version = 1)
                AND e.version = (v->>1)::bigint
        ), true)
    );
END $$;

CREATE OR REPLACE PROCEDURE append_next(
    known bigint, known_id text, expected jsonb, new_events jsonb, INOUT stored bigint
) LANGUAGE plpgsql AS $$
BEGIN
    stored := CASE WHEN are_there(expected) THEN insert_by_name(known, known_id, new_events) ELSE 0 END;
    COMMIT;
END $$;

CREATE OR REPLACE PROCEDURE append_next(
    known bigint, known_id text, expected jsonb, new_events jsonb
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT are_there(expected) OR insert_by_name(known, known_id, new_events) = 0 THEN
        RAISE EXCEPTION 'a stream, or the log, does not stand where an append expects it' USING ERRCODE = 'RHY03';
    END IF;
    COMMIT;
END $$;

CREATE OR REPLACE PROCEDURE append_one(
    known bigint, known_id text, its_stream text, its_version bigint, its_id text, its_type text, its_data bytea,
    its_metadata bytea, its_recorded_at bigint
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT known + 1, its_stream, its_version, its_id, its_type, its_data, its_metadata, its_recorded_at,
           CASE WHEN its_version = 1 THEN known + 1 ELSE (
               SELECT f.position FROM events AS f WHERE f.stream = its_stream AND f.version = 1
           ) END
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the last event that the writer knows is gone' USING ERRCODE = 'RHY03';
    END IF;
    PERFORM notify_of_append();
    COMMIT;
END $$;
"""

# The index of names stays for a day, for programs that still run and read streams by it: without it each of their reads
# would go through the whole log, and take the server from everybody.
IS_TO_BE_TIDIED: Final = """
    SELECT EXISTS (
        SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = 'events_stream_version' AND nspname = $1
    ) AND EXISTS (SELECT FROM migrations WHERE version = 3 AND applied_at < now() - interval '1 day')
"""
TIDY: Final = "DROP INDEX IF EXISTS events_stream_version"

# What may fail at once, as where the procedures belong to somebody else, comes before what takes long.
NUMBERED_STREAMS: Final = (
    _APPEND_KNOWN + _APPEND_EXPECTING + _APPEND_ONE + _APPEND_LOCKED + _FOR_OLDER_PROGRAMS + _NUMBERS
)
