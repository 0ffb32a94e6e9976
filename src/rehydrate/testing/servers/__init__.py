"""Real database servers for tests: started on a free port of 127.0.0.1, thrown away afterwards, never left behind.

room.py      the folder that all servers of a test run stand in    process.py   a server as a child process
postgres.py  PostgreSQL, and a standby of one                      mongodb.py   a replica set of MongoDB
nats.py      NATS with JetStream, one node or several              handles.py   what is done with any of them
databases.py a fresh, empty database on any server                 spares.py    databases that are lent again
found.py     where the programs are                                folder.py    where a server's data lies
watcher.py   ends what a killed test run has left behind           account.py   who runs the servers

Under pytest they come as fixtures: `postgres_url`, `mongodb_url`, `start_postgres`, `start_mongodb`,
and likewise for NATS.
"""

from rehydrate.testing.servers.databases import database_on, drop_database, fresh_database
from rehydrate.testing.servers.found import ServerNotFoundError
from rehydrate.testing.servers.mongodb import MongoMember, MongoServer
from rehydrate.testing.servers.nats import NatsNode, NatsServer
from rehydrate.testing.servers.postgres import PostgresServer
from rehydrate.testing.servers.process import ServerFailedError
from rehydrate.testing.servers.room import ServerRoom

__all__ = [
    "MongoMember",
    "MongoServer",
    "NatsNode",
    "NatsServer",
    "PostgresServer",
    "ServerFailedError",
    "ServerNotFoundError",
    "ServerRoom",
    "database_on",
    "drop_database",
    "fresh_database",
]
