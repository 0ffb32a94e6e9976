"""Stores on PostgreSQL, each with one mistake in a procedure: the laws have to notice it."""

import re
from typing import ClassVar

import asyncpg

from rehydrate.store.port import Store
from rehydrate.store.postgres import migrations
from rehydrate.store.url import open_store


class Mutant:
    right: ClassVar[str]
    wrong: ClassVar[str]

    @classmethod
    async def open_mutant(cls, url: str) -> Store:
        store = await open_store(url)
        connection = await asyncpg.connect(url, server_settings={"search_path": "rehydrate"})
        try:
            # One after the other, for the same procedure cannot be replaced by two at a time.
            await connection.execute("SELECT pg_advisory_lock(1)")
            await connection.execute(cls._procedures())
        finally:
            await connection.close()
        return store

    @classmethod
    def _procedures(cls) -> str:
        found = re.findall(r"PROCEDURE \w+\(.*?END \$\$;", "".join(migrations.MIGRATIONS), re.DOTALL)
        procedures = "\n".join(f"CREATE OR REPLACE {procedure}" for procedure in found)
        assert procedures.count(cls.right) >= 1
        return procedures.replace(cls.right, cls.wrong)


class LastEventNotNamed(Mutant):
    """Numbers on from what it knew, also where the log was set back."""

    right = "WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);"
    wrong = ";"


class VersionAboveNotLookedFor(Mutant):
    """Takes whatever version an append expects, if nothing stands behind it."""

    right = "AND e.version = (v->>1)::bigint AND v->>2 IN ('', e.id)"
    wrong = "AND e.version = 1"


class EventElsewhereBelieved(Mutant):
    """Takes whatever stands where an append says that the event before it is."""

    right = "WHERE e.position = (v->>3)::bigint AND e.stream = v->>0 AND e.version = (v->>1)::bigint AND v->>2 IN ('', e.id)"
    wrong = "WHERE e.position = (v->>3)::bigint"


class StreamElsewhereBelieved(Mutant):
    right = "e.position = (v->>3)::bigint AND e.stream = v->>0"
    wrong = "e.position = (v->>3)::bigint"


class VersionElsewhereBelieved(Mutant):
    right = "e.stream = v->>0 AND e.version = (v->>1)::bigint"
    wrong = "e.stream = v->>0"


class FirstEventCommittedAlone(Mutant):
    right = "IF NOT FOUND THEN"
    wrong = "IF false THEN"

    @classmethod
    def _procedures(cls) -> str:
        insert = r"    INSERT INTO events [^;]* AS new_event\(v, n\)\n    WHERE [^;]*;"
        return re.sub(insert, cls._twice, super()._procedures())

    @classmethod
    def _twice(cls, insert: re.Match[str]) -> str:
        first, others = (f"{insert[0][:-1]} AND n {which};\n" for which in ("= 1", "> 1"))
        return f"{first}COMMIT; PERFORM pg_sleep(0.002);\n{others}"


class RepeatNotRecognised(Mutant):
    right = "AND e.id = v->>2"
    wrong = "AND false"


class RepeatKnownByItsLastEvent(Mutant):
    right = "CASE WHEN there = all_of_it THEN last END"
    wrong = "last"


class SealsNothing(Mutant):
    right = "CREATE TRIGGER events_are_sealed BEFORE INSERT ON events\n            FOR EACH STATEMENT EXECUTE FUNCTION refuse_append();"
    wrong = "NULL;"


class CheckpointWithoutEpoch(Mutant):
    right = "AND epoch = previous_epoch"
    wrong = ""
