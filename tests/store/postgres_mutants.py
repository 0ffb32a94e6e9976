"""Stores on PostgreSQL, each with one mistake in a procedure: the laws have to notice it."""

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
        procedures = "CREATE PROCEDURE".join(
            ["", *"".join(migrations.MIGRATIONS).split("CREATE PROCEDURE")[1:]]
        )
        assert procedures.count(cls.right) >= 1
        return procedures.replace(cls.right, cls.wrong).replace(
            "CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE"
        )


class LastEventNotNamed(Mutant):
    """Numbers on from what it knew, also where the log was set back."""

    right = "WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);"
    wrong = ";"


class VersionAboveNotLookedFor(Mutant):
    """Takes whatever version an append expects, if nothing stands behind it."""

    right = "IF expected IS NOT NULL THEN"
    wrong = "IF false THEN"


class FirstEventCommittedAlone(Mutant):
    right = "IF NOT FOUND THEN"
    wrong = "IF false THEN"

    @classmethod
    def _procedures(cls) -> str:
        procedures = super()._procedures()
        head, insert, rest = _cut(
            procedures,
            "    INSERT INTO events",
            "WHERE EXISTS (SELECT FROM events WHERE position = known AND id = known_id);",
        )
        first, others = (f"{insert[:-1]} AND n {which};\n" for which in ("= 1", "> 1"))
        return f"{head}{first}COMMIT; PERFORM pg_sleep(0.002);\n{others}{rest}"


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


def _cut(text: str, begin: str, end: str) -> tuple[str, str, str]:
    """What is before the last such piece of the text, the piece, and what is behind it."""
    head, _, rest = text.rpartition(begin)
    piece, _, rest = rest.partition(end)
    return head, begin + piece + end, rest
