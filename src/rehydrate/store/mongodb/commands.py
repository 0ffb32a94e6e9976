"""Every collection, index and command of the MongoDB store.

An append is one document of `events`:

    {_id: 41, stream: "bank_account-ada", version: 7, count: 2, recorded_at: 1795854531000000,
     events: [{id: "...", type: "Deposited", data: <bytes>, metadata: <bytes>}, {...}]}

`_id` and `version` are the position and the version of its first event; those of the others follow without gaps. So
the next document begins at `_id + count`, and whoever is first there makes all others fail. A document is never
changed and never removed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias

from rehydrate.domain.streams import first_beyond
from rehydrate.store.port import LogFilter

Command: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = 1
SEALED: Final = "\0sealed"
"""The stream of the document that seals the store: no other can have that name, and it comes before all others."""

MAJORITY: Final = {"level": "majority"}
"""What is read is never rolled back."""
CONFIRMED: Final = {"level": "linearizable"}
"""And who answered is still the primary after it has read."""
_BEGINNING_WITH: Final = {"$gt": SEALED}


class Commands:
    """The commands for the collections of one store, each of them for the primary."""

    def __init__(self, prefix: str, timeout: float) -> None:
        self.events = f"{prefix}events"
        self.snapshots = f"{prefix}snapshots"
        self.checkpoints = f"{prefix}checkpoints"
        self.views = f"{prefix}views"
        self.savers = f"{prefix}savers"
        self.meta = f"{prefix}meta"
        self._milliseconds = round(timeout * 1_000)
        self._durable = {"w": "majority", "j": True, "wtimeout": self._milliseconds}

    # ---- opening

    def collections(self) -> Sequence[str]:
        return (self.events, self.snapshots, self.checkpoints, self.views, self.savers, self.meta)

    def create_collections(self) -> list[Command]:
        return [{"create": name, "writeConcern": self._durable} for name in self.collections()]

    def create_indexes(self) -> list[Command]:
        """All indexes beside those on `_id`; making one that is there costs nothing."""
        return [
            self._create_index(self.events, self.index_of_events()),
            self._create_index(self.snapshots, {"stream": 1, "version": 1}),
            self._create_index(self.views, {"name": 1, "key": 1}),
        ]

    def index_of_events(self) -> Command:
        """By it no two appends stand at one version, and streams are read."""
        return {"stream": 1, "version": 1}

    def indexes_of_events(self) -> Command:
        return {"listIndexes": self.events, "cursor": {}, "maxTimeMS": self._milliseconds}

    def any_of(self, collection: str) -> Command:
        """A document of a collection, if there is one."""
        return self._find(collection, {}, sort={"_id": 1}, limit=1, projection={"_id": 1})

    def read_schema(self) -> Command:
        return self._find(self.meta, {"_id": "schema"}, limit=1)

    def save_schema(self) -> Command:
        return self._insert(self.meta, [{"_id": "schema", "version": SCHEMA_VERSION}])

    def collection(self, name: str) -> Command:
        """What there is of a collection: its UUID, if it is there."""
        return {"listCollections": 1, "filter": {"name": name}, "cursor": {}, "maxTimeMS": self._milliseconds}

    # ---- appending

    def insert(self, documents: Sequence[Command], log: object) -> Command:
        """In order, up to the first that cannot be; what comes behind that is not tried."""
        return {**self._insert(self.events, documents), "collectionUUID": log}

    def insert_behind(self, first: int, first_id: str, documents: Sequence[Command], log: object) -> Command:
        """The same, only if a document is there: the one that begins at that position with that event.

        An update of nothing where it is there, and where it is not, one that cannot be done: the rest is not tried.
        """
        there = {
            "q": {"_id": first, "events.0.id": first_id},
            "u": {"$setOnInsert": {"events.0.id.is": "not there"}},
            "upsert": True,
        }
        inserts = [
            {
                # No document is without a count: the condition makes of a document that is there a duplicate key.
                "q": {"_id": document["_id"], "count": {"$exists": False}},
                "u": {"$setOnInsert": {name: document[name] for name in document if name != "_id"}},
                "upsert": True,
            }
            for document in documents
        ]
        return {
            "update": self.events,
            "updates": [there, *inserts],
            "ordered": True,
            "writeConcern": self._durable,
            "collectionUUID": log,
        }

    def is_there(self, first: int, first_id: str, log: object = None) -> Command:
        """The document that begins at that position with that event, if there is one, whether a majority has it or not."""
        there = self._find(
            self.events, {"_id": first, "events.0.id": first_id}, limit=1, projection={"_id": 1}
        )
        return self._of(log, {**there, "readConcern": {"level": "local"}})

    def newest(self, log: object = None) -> Command:
        """The last document, and the one before it: the last may be the seal."""
        return self._of(
            log,
            self._find(
                self.events,
                {},
                sort={"_id": -1},
                limit=2,
                projection={
                    "stream": 1,
                    "count": 1,
                    "first_id": {"$first": "$events.id"},
                    "event_id": {"$last": "$events.id"},
                },
            ),
        )

    def documents_behind(self, position: int, limit: int, log: object, *, lasting: bool) -> Command:
        """The documents behind a position, without their events; `lasting`: only those that a majority has."""
        command = self._find(
            self.events,
            {"_id": {"$gt": position}},
            sort={"_id": 1},
            limit=limit,
            projection={
                "stream": 1,
                "version": 1,
                "count": 1,
                "first_id": {"$first": "$events.id"},
                "last_id": {"$last": "$events.id"},
            },
        )
        return self._of(log, command if lasting else {**command, "readConcern": {"level": "local"}})

    def heads(self, streams: Sequence[str], log: object = None, *, confirmed: bool = False) -> Command:
        """The last document of each stream, without its events; `confirmed`: by a majority that it is the primary's."""
        return self._of(
            log,
            {
                "aggregate": self.events,
                "pipeline": [
                    {"$match": {"stream": {"$in": list(streams)}}},
                    # Both downwards, so that the index leads to the last of each stream and skips the rest.
                    {"$sort": {"stream": -1, "version": -1}},
                    {
                        "$group": {
                            "_id": "$stream",
                            "version": {"$first": "$version"},
                            "count": {"$first": "$count"},
                            "last_id": {"$first": {"$last": "$events.id"}},
                            "position": {"$first": "$_id"},
                        }
                    },
                ],
                "cursor": {"batchSize": len(streams)},
                "readConcern": CONFIRMED if confirmed else MAJORITY,
                "maxTimeMS": self._milliseconds,
            },
        )

    # ---- reading

    def stream_between(
        self, stream: str, after: int, upto: int, *, narrow: Sequence[str] = (), log: object = None
    ) -> Command:
        """The documents of a stream that begin behind one version and not behind another."""
        return self._of(
            log,
            self._find(
                self.events,
                {"stream": stream, "version": {"$gt": after, "$lte": upto}},
                sort={"version": 1},
                limit=upto - after,
                projection=_narrow(narrow),
            ),
        )

    def stream_around(
        self, stream: str, version: int, *, narrow: Sequence[str] = (), log: object = None
    ) -> Command:
        """The last document of a stream that does not begin behind a version."""
        return self._of(
            log,
            self._find(
                self.events,
                {"stream": stream, "version": {"$lte": version}},
                sort={"version": -1},
                limit=1,
                projection=_narrow(narrow),
            ),
        )

    def log_between(self, first: int, last: int, limit: int, where: LogFilter | None = None) -> Command:
        """The documents that begin at these positions or between them, those that may match only."""
        return {
            **self._find(
                self.events,
                {"_id": {"$gte": first, "$lte": last}, **_matching(where)},
                sort={"_id": 1},
                limit=limit,
            ),
            # Always along the positions, whatever the planner thinks of other ways: their range bounds what is read.
            "hint": {"_id": 1},
        }

    def log_around(self, position: int) -> Command:
        """The last document that does not begin behind a position."""
        return self._find(self.events, {"_id": {"$lte": position}}, sort={"_id": -1}, limit=1)

    def end_around(self, position: int) -> Command:
        """The same, without its events."""
        return self._find(
            self.events,
            {"_id": {"$lte": position}},
            sort={"_id": -1},
            limit=1,
            projection={"count": 1, "event_id": {"$last": "$events.id"}},
        )

    def streams(self, prefix: str, after: str, limit: int) -> Command:
        """Names of streams: each has one document that begins at version 1, and the index leads from one to the next."""
        names = name_range(prefix, after) or _BEGINNING_WITH
        return self._find(
            self.events,
            {"version": 1, "stream": names},
            sort={"stream": 1},
            limit=limit,
            projection={"stream": 1, "_id": 0},
        )

    def changes(self) -> Command:
        """A change stream, for no more than the fact that something was inserted."""
        return {
            "aggregate": self.events,
            "pipeline": [
                {"$changeStream": {}},
                {"$match": {"operationType": "insert"}},
                {"$project": {"_id": 1}},
            ],
            "cursor": {},
            "readConcern": MAJORITY,
        }

    # ---- snapshots

    def newest_snapshot(self, stream: str, *, data: bool = True, skip: int = 0) -> Command:
        return {
            **self._find(
                self.snapshots,
                {"stream": stream},
                sort={"version": -1},
                limit=1,
                projection=None if data else {"version": 1},
            ),
            "skip": skip,
        }

    def save_snapshot(self, document: Command) -> Command:
        key = {"stream": document["stream"], "version": document["version"]}
        return self._update(self.snapshots, key, document, upsert=True)

    def delete_snapshots(self, stream: str, *, below: int | None = None) -> Command:
        versions: Command = {} if below is None else {"version": {"$lt": below}}
        return self._delete(self.snapshots, {"stream": stream, **versions})

    # ---- checkpoints and views. Inside a transaction it is the transaction that has read and write concern.

    def load_checkpoint(self, name: str) -> Command:
        return self._find(self.checkpoints, {"_id": name}, limit=1)

    def list_checkpoints(self, after: str) -> Command:
        return self._find(self.checkpoints, {"_id": {"$gt": after}}, sort={"_id": 1}, limit=1_000)

    def begin_checkpoint(self, document: Command) -> Command:
        return self._insert(self.checkpoints, [document])

    def move_checkpoint(self, document: Command, *, epoch: int, position: int) -> Command:
        place = {"_id": document["_id"], "epoch": epoch, "position": position}
        return self._update(self.checkpoints, place, document)

    def reset_checkpoint(self, name: str, document: Command) -> Command:
        return self._update(self.checkpoints, {"_id": name}, {"$set": document, "$inc": {"epoch": 1}})

    def remove_checkpoint(self, name: str) -> Command:
        return self._delete(self.checkpoints, {"_id": name})

    def save_views(self, name: str, views: Sequence[tuple[str, bytes]]) -> Command:
        return {
            "update": self.views,
            "updates": [
                {
                    "q": {"name": name, "key": key},
                    "u": {"name": name, "key": key, "data": data},
                    "upsert": True,
                }
                for key, data in views
            ],
            "ordered": True,
        }

    def remove_views(self, name: str, keys: Collection[str] | None = None) -> Command:
        which: Command = {} if keys is None else {"key": {"$in": list(keys)}}
        return {"delete": self.views, "deletes": [{"q": {"name": name, **which}, "limit": 0}]}

    def load_view(self, name: str, key: str) -> Command:
        return self._find(self.views, {"name": name, "key": key}, limit=1)

    def load_views(self, name: str, keys: Sequence[str]) -> Command:
        return self._find(self.views, {"name": name, "key": {"$in": list(keys)}}, limit=len(keys))

    def list_views(self, name: str, prefix: str, after: str, limit: int) -> Command:
        names = name_range(prefix, after)
        return self._find(
            self.views, {"name": name, **({"key": names} if names else {})}, sort={"key": 1}, limit=limit
        )

    def announce_saver(self, name: str, session: object) -> Command:
        """Who is about to save a place in a transaction, so that a successor can end it."""
        return self._update(
            self.savers,
            {"_id": name},
            {"$push": {"sessions": {"$each": [session], "$slice": -100}}},
            upsert=True,
        )

    def savers_of(self, name: str) -> Command:
        return self._find(self.savers, {"_id": name}, limit=1)

    # ---- their parts

    def _create_index(self, collection: str, key: Command) -> Command:
        index = {"key": key, "name": "_".join(key), "unique": True}
        return {"createIndexes": collection, "indexes": [index], "writeConcern": self._durable}

    @staticmethod
    def in_transaction(command: Command) -> Command:
        """The command without what a transaction has for all of its commands."""
        return {
            name: value
            for name, value in command.items()
            if name not in {"readConcern", "writeConcern", "maxTimeMS"}
        }

    def patient_for(self, command: Command, seconds: float) -> Command:
        """The command, given up by the server after that time where it is blocked."""
        return {**command, "maxTimeMS": round(seconds * 1_000)}

    def _find(
        self,
        collection: str,
        query: Command,
        *,
        sort: Command | None = None,
        limit: int = 0,
        projection: Command | None = None,
    ) -> Command:
        command: Command = {"find": collection, "filter": query}
        if sort is not None:
            command["sort"] = sort
        if projection is not None:
            command["projection"] = projection
        if limit:
            command["limit"] = command["batchSize"] = limit
        return {**command, "readConcern": MAJORITY, "maxTimeMS": self._milliseconds}

    def _insert(self, collection: str, documents: Sequence[Command]) -> Command:
        return {
            "insert": collection,
            "documents": list(documents),
            "ordered": True,
            "writeConcern": self._durable,
        }

    def _update(self, collection: str, query: Command, update: Command, *, upsert: bool = False) -> Command:
        return {
            "update": collection,
            "updates": [{"q": query, "u": update, "upsert": upsert}],
            "writeConcern": self._durable,
        }

    def _delete(self, collection: str, query: Command) -> Command:
        return {
            "delete": collection,
            "deletes": [{"q": query, "limit": 0}],
            "writeConcern": self._durable,
        }

    @staticmethod
    def _of(log: object, command: Command) -> Command:
        return command if log is None else {**command, "collectionUUID": log}


def name_range(prefix: str, after: str) -> Command:
    """The names that begin with the prefix and come after another, as a condition; empty if those are all."""
    names: Command = {"$gt": after} if after and after >= prefix else {"$gte": prefix} if prefix else {}
    if beyond := first_beyond(prefix):
        names["$lt"] = beyond
    return names


def _narrow(fields: Sequence[str]) -> Command | None:
    """No more of the events than these fields."""
    if not fields:
        return None
    return {"version": 1, "count": 1, **{f"events.{field}": 1 for field in fields}}


MAX_FILTER: Final = 8 * 1024 * 1024
"""Bytes of names that go to the server at most; beyond this, what it hands out is filtered here."""


def _matching(where: LogFilter | None) -> Command:
    """What a document has to have so that one of its events can match."""
    if where is None:
        return {}
    every: list[Command] = []
    if where.streams and _fits(where.streams):
        every.append({"stream": {"$in": _texts(where.streams)}})
    if where.aggregates and _fits(where.aggregates):
        names = [name for aggregate in _texts(where.aggregates) for name in _of_aggregate(aggregate)]
        every.append({"$or": names or [{"stream": {"$in": []}}]})
    if where.types and _fits(where.types):
        every.append({"events.type": {"$in": _texts(where.types)}})
    if _fits([*itertools.chain(*where.without)]):
        every += _others(where.without)
    return {"$and": every} if every else {}


def _others(without: Collection[tuple[str, str]]) -> list[Command]:
    """For each aggregate: that a document is not of it, or has an event of another type than these."""
    types: dict[str, list[str]] = {}
    for aggregate, type in sorted(without):
        if is_text(aggregate) and is_text(type):
            types.setdefault(aggregate, []).append(type)
    return [
        {"$or": [{"$nor": _of_aggregate(name)}, {"events": {"$elemMatch": {"type": {"$nin": its}}}}]}
        for name, its in types.items()
    ]


def _texts(names: Collection[str]) -> list[str]:
    """Those that a stored event could have."""
    return sorted(filter(is_text, names))


def is_text(name: str) -> bool:
    """Whether it holds no lone surrogate, which MongoDB does not take."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_aggregate(name: str) -> list[Command]:
    # "." comes next to "-".
    return [{"stream": {"$gte": f"{name}-", "$lt": f"{name}."}}, {"stream": name}]


def _fits(names: Collection[str]) -> bool:
    """A command has 16 MiB. A character may have four bytes, and each name has some more around it."""
    return sum(4 * len(name) + 16 for name in names) <= MAX_FILTER
