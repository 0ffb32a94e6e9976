"""The tables and procedures of the PostgreSQL store, one migration after the other.

They are run with the store's schema as the only one on the search path. A migration that was released is never
changed: what has to be different is one more.

Whatever writes is a procedure that ends with COMMIT. In PostgreSQL's protocol a statement commits only when a
further message of the client has arrived, so a client that is stopped before it sends that one would keep its locks,
and everybody else waiting. A procedure has committed before it needs anything more from its client.
"""

from __future__ import annotations

from typing import Final

from rehydrate.store.postgres.numbered_streams import NUMBERED_STREAMS

_TABLES: Final = """
CREATE TABLE events (
    position bigint PRIMARY KEY CHECK (position > 0),
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    metadata bytea NOT NULL,
    recorded_at bigint NOT NULL
);
CREATE UNIQUE INDEX events_stream_version ON events (stream, version);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an event is never changed and never deleted' USING ERRCODE = 'RHY01';
END $$;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_append() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the store is sealed and takes no more events' USING ERRCODE = 'RHY02';
END $$;

CREATE TABLE snapshots (
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    schema bigint NOT NULL,
    fingerprint text NOT NULL,
    data bytea NOT NULL,
    recorded_at bigint NOT NULL,
    PRIMARY KEY (stream, version)
);

CREATE TABLE checkpoints (
    name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    data bytea NOT NULL
);

CREATE TABLE views (
    name text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (name, key)
);
"""

# A hint must not fail an append, as it would where somebody listens, stands still, and lets the queue fill up.
_NOTIFY: Final = """
CREATE FUNCTION notify_of_append() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('rehydrate ' || current_schema(), '');
    END IF;
END $$;
"""

# The optimistic way: no lock. The writer has given the positions itself, right behind the last event that it knows,
# and whoever was there first makes all of it fail. A row is [stream, version, id, type, data, metadata, recorded at].
# `expected` names events [stream, version, id] that must be there, for streams whose end the writer does not know; an
# empty id is any.
_APPEND_NEXT: Final = """
CREATE PROCEDURE append_next(
    known bigint, known_id text, expected jsonb, new_events jsonb, INOUT stored bigint
) LANGUAGE plpgsql AS $$
BEGIN
    stored := 0;
    IF EXISTS (SELECT FROM events WHERE position = known AND id = known_id) AND (
        expected IS NULL OR NOT EXISTS (
            SELECT FROM jsonb_array_elements(expected) AS one(v)
            WHERE NOT EXISTS (SELECT FROM events AS e
                              WHERE e.stream = v->>0 AND e.version = (v->>1)::bigint AND v->>2 IN ('', e.id))
        )
    ) THEN
        INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at)
        SELECT known + n, v->>0, (v->>1)::bigint, v->>2, v->>3,
               decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint
        FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n);
        GET DIAGNOSTICS stored = ROW_COUNT;
        PERFORM notify_of_append();
    END IF;
    COMMIT;
END $$;
"""

# The same, for a writer that need not be told what it knows: that its events are stored. It answers with nothing, raises
# where they are not, and does what is rarely needed in a statement of its own. PostgreSQL made a new plan each time for
# the condition of the procedure above, which took it longer than to insert 20 rows, and whoever answers with a row has to
# keep it until its transaction has ended. The procedure above is for programs that still run while another one migrates.
_APPEND_NEXT_OR_RAISE: Final = """
CREATE PROCEDURE append_next(known bigint, known_id text, expected jsonb, new_events jsonb) LANGUAGE plpgsql AS $$
BEGIN
    IF expected IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM jsonb_array_elements(expected) AS one(v)
            -- A subquery of this kind is never made a join, which might not go along the index.
            WHERE coalesce((SELECT e.id <> v->>2 AND v->>2 <> '' FROM events AS e
                            WHERE e.stream = v->>0 AND e.version = (v->>1)::bigint), true)
        ) THEN
            RAISE EXCEPTION 'a stream does not stand where an append expects it' USING ERRCODE = 'RHY03';
        END IF;
    END IF;
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at)
    SELECT known + n, v->>0, (v->>1)::bigint, v->>2, v->>3,
           decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n)
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the last event that the writer knows is gone' USING ERRCODE = 'RHY03';
    END IF;
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('rehydrate ' || current_schema(), '');
    END IF;
    COMMIT;
END $$;
"""

# The same for a single event, which many an append is: it need not go through JSON. Its stream stands where the writer knows.
_APPEND_ONE: Final = """
CREATE PROCEDURE append_one(
    known bigint, known_id text, its_stream text, its_version bigint, its_id text, its_type text, its_data bytea,
    its_metadata bytea, its_recorded_at bigint
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at)
    SELECT known + 1, its_stream, its_version, its_id, its_type, its_data, its_metadata, its_recorded_at
    WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the last event that the writer knows is gone' USING ERRCODE = 'RHY03';
    END IF;
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('rehydrate ' || current_schema(), '');
    END IF;
    COMMIT;
END $$;
"""

# The locked way: takes the lock first and looks then, in statements that begin after the lock is held, each with a
# snapshot of its own. `appends` are [stream, expected version, id of the event there, or empty for any], in order; a row names its
# append at its end, from 1. `heads` are [version, id of the event there], `repeated_at` the position of an append's last
# event where it was stored before.
#
# A commit that waited for a standby may have been interrupted, by a crash of the server or by an administrator, and
# then its events are seen before any standby has them. A commit that has written nothing does not wait. So where a
# repeat is told of its first result, or a new session of anything, a message that nobody reads is written to the log
# behind those events: the standby has them when it has that.
_APPEND_LOCKED: Final = """
CREATE PROCEDURE append_locked(
    INOUT known bigint, INOUT known_id text, appends jsonb, new_events jsonb,
    INOUT still_there boolean, INOUT is_sealed boolean, INOUT heads jsonb, INOUT repeated_at jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    fits boolean[];
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
           array_agg(coalesce(head, 0) = wanted AND (wanted_id = '' OR coalesce(head_id, wanted_id) = wanted_id) ORDER BY n)
    INTO heads, fits
    FROM (
        SELECT n, (v->>1)::bigint AS wanted, v->>2 AS wanted_id, last.version AS head, last.id AS head_id
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS append(v, n)
        LEFT JOIN LATERAL (
            SELECT e.version, e.id FROM events AS e WHERE e.stream = v->>0 ORDER BY e.version DESC LIMIT 1
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
                    WHERE e.stream = v->>0 AND e.version = (v->>1)::bigint AND e.id = v->>2
                ) END AS position
                FROM jsonb_array_elements(new_events) AS new_event(v)
            ) AS event_by_event
            GROUP BY k
        ) AS append_by_append;
    END IF;

    IF NOT is_sealed AND true = ANY (fits) THEN
        INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at)
        SELECT known + row_number() OVER (ORDER BY n), v->>0, (v->>1)::bigint, v->>2, v->>3,
               decode(v->>4, 'base64'), decode(v->>5, 'base64'), (v->>6)::bigint
        FROM jsonb_array_elements(new_events) WITH ORDINALITY AS new_event(v, n)
        WHERE fits[(v->>7)::int];
        PERFORM notify_of_append();
    ELSIF (is_first OR jsonb_path_exists(repeated_at, '$[*] ? (@ != null)')) AND NOT pg_is_in_recovery() THEN
        PERFORM pg_logical_emit_message(true, 'rehydrate', '');
    END IF;
    COMMIT;
END $$;
"""

# The trigger can only be made when every insert under way has ended, and no other begins meanwhile.
_SEAL: Final = """
CREATE PROCEDURE seal() LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE;
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'events'::regclass AND tgname = 'events_are_sealed'
    ) THEN
        CREATE TRIGGER events_are_sealed BEFORE INSERT ON events
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_append();
    END IF;
    COMMIT;
END $$;
"""

_SNAPSHOTS: Final = """
CREATE PROCEDURE save_snapshot(
    its_stream text, its_version bigint, its_position bigint, its_event_id text, its_schema bigint,
    its_fingerprint text, its_data bytea, its_recorded_at bigint, keep bigint
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM snapshots WHERE stream = its_stream AND version > its_version) THEN
        INSERT INTO snapshots (stream, version, position, event_id, schema, fingerprint, data, recorded_at)
        VALUES (its_stream, its_version, its_position, its_event_id, its_schema, its_fingerprint, its_data,
                its_recorded_at)
        ON CONFLICT (stream, version) DO UPDATE SET
            position = excluded.position, event_id = excluded.event_id, schema = excluded.schema,
            fingerprint = excluded.fingerprint, data = excluded.data, recorded_at = excluded.recorded_at;
        DELETE FROM snapshots WHERE stream = its_stream AND version <= (
            SELECT version FROM snapshots WHERE stream = its_stream ORDER BY version DESC LIMIT 1 OFFSET keep
        );
    END IF;
    COMMIT;
END $$;

CREATE PROCEDURE delete_snapshots(its_stream text) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM snapshots WHERE stream = its_stream;
    COMMIT;
END $$;
"""

_CHECKPOINTS: Final = """
CREATE PROCEDURE save_checkpoint(
    its_name text, its_position bigint, its_event_id text, its_epoch bigint, its_data bytea,
    previous_position bigint, previous_epoch bigint, changes jsonb, INOUT saved boolean
) LANGUAGE plpgsql AS $$
BEGIN
    IF previous_position IS NULL THEN
        INSERT INTO checkpoints (name, position, event_id, epoch, data)
        VALUES (its_name, its_position, its_event_id, its_epoch, its_data) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE checkpoints
        SET position = its_position, event_id = its_event_id, epoch = its_epoch, data = its_data
        WHERE name = its_name AND position = previous_position AND epoch = previous_epoch;
    END IF;
    saved := FOUND;
    IF saved AND changes IS NOT NULL THEN
        DELETE FROM views USING jsonb_array_elements(changes) AS change(v)
        WHERE views.name = its_name AND views.key = v->>0 AND v->>1 IS NULL;
        INSERT INTO views (name, key, data)
        SELECT its_name, v->>0, decode(v->>1, 'base64')
        FROM jsonb_array_elements(changes) AS change(v) WHERE v->>1 IS NOT NULL
        ON CONFLICT (name, key) DO UPDATE SET data = excluded.data;
    END IF;
    COMMIT;
END $$;

CREATE PROCEDURE reset_checkpoint(its_name text) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE checkpoints SET position = 0, event_id = '', epoch = epoch + 1, data = '' WHERE name = its_name;
    DELETE FROM views WHERE name = its_name;
    COMMIT;
END $$;

CREATE PROCEDURE remove_checkpoint(its_name text) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM checkpoints WHERE name = its_name;
    DELETE FROM views WHERE name = its_name;
    COMMIT;
END $$;
"""

MIGRATIONS: Final = (
    _TABLES + _NOTIFY + _APPEND_NEXT + _APPEND_LOCKED + _SEAL + _SNAPSHOTS + _CHECKPOINTS,
    _APPEND_ONE + _APPEND_NEXT_OR_RAISE,
    NUMBERED_STREAMS,
)
"""The first leads from nothing to version 1, and so on."""

VERSION: Final = len(MIGRATIONS)
"""The version of the schema that this program knows."""
