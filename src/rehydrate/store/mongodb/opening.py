"""What is checked, and made, when a store is opened."""

from __future__ import annotations

import logging
from typing import Final

from pymongo.errors import OperationFailure, PyMongoError

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.store.mongodb import failures
from rehydrate.store.mongodb.commands import SCHEMA_VERSION, Commands
from rehydrate.store.mongodb.driver import Document, Driver

logger = logging.getLogger(__name__)

_OLDEST: Final = 17
"""The wire version of MongoDB 6.0."""
_HOW_TO_START: Final = (
    "start mongod with --replSet rs0 and run rs.initiate() once in mongosh; one member is enough"
)


async def open_database(driver: Driver, commands: Commands, store: str, *, create: bool = True) -> None:
    """Check that a store can be kept there, and, with `create`, make the collections and indexes that are missing."""
    check_server(await driver.first_contact(), store)
    await _warn_if_in_memory(driver, store)
    try:
        await _prepare(driver, commands, store, create=create)
    except StoreUnavailableError as error:
        if error.__cause__ is not None and failures.is_of_authentication(error.__cause__):
            raise ConfigurationError(
                f"{error.reason}: the user needs the role readWrite on this database"
            ) from None
        raise


def check_server(hello: Document, store: str) -> None:
    """Raise `ConfigurationError` where the promises cannot be kept."""
    if hello.get("msg") == "isdbgrid":
        raise ConfigurationError(
            f"{store} is a sharded cluster, on which events have no common order: use a replica set"
        )
    if "setName" not in hello:
        raise ConfigurationError(
            f"{store} is a standalone server, and must be a replica set: {_HOW_TO_START}"
        )
    if not hello.get("isWritablePrimary"):
        raise StoreUnavailableError(
            f"{store} is no primary now: name the members of the replica set, and leave out directConnection"
        )
    if hello["maxWireVersion"] < _OLDEST:
        raise ConfigurationError(f"{store} is older than MongoDB 6.0: upgrade it")


async def _warn_if_in_memory(driver: Driver, store: str) -> None:
    try:
        status = await driver.administer({"serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0})
    except OperationFailure:
        return  # Not everybody may ask.
    except PyMongoError as error:
        raise driver.store_error(error, writing=False) from error
    engine = status.get("storageEngine", {})
    if not engine.get("persistent", True):
        logger.warning(
            "%s keeps its data in memory (%s): nothing survives its end", store, engine.get("name")
        )


async def _prepare(driver: Driver, commands: Commands, store: str, *, create: bool) -> None:
    is_new = await _is_new(driver, commands, store)
    if is_new and not create:
        raise ConfigurationError(
            f"{store} holds no store, and looking at it must not make one: is the name of the database right, and prefix=?"
        )
    if not create:
        return
    if is_new:
        for command in commands.create_collections():
            await _create(driver, command)
    for command in commands.create_indexes():
        await driver.write(command)
    if is_new:
        # Last, so that whoever finds it finds everything. Another process may have been faster.
        await driver.write(commands.save_schema())


async def _is_new(driver: Driver, commands: Commands, store: str) -> bool:
    """Whether there is no store yet; raises if it is newer than this program, or another program's database."""
    if await _is_there(driver, commands, store):
        return False
    for collection in commands.collections():
        if not (await driver.read(commands.any_of(collection)))["cursor"]["firstBatch"]:
            continue
        # Another process may have made the store meanwhile, and appended: it says so before there is anything in it.
        if await _is_there(driver, commands, store):
            return False
        raise ConfigurationError(
            f"{store} holds a collection {collection} of another program: choose another database, or a prefix="
        )
    return True


async def _is_there(driver: Driver, commands: Commands, store: str) -> bool:
    """Whether there is a store, of this schema."""
    found = (await driver.read(commands.read_schema()))["cursor"]["firstBatch"]
    if not found:
        return False
    version = found[0].get("version")
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"{store} was written by a newer Rehydrate (schema {version}, this one knows {SCHEMA_VERSION}): "
            "upgrade Rehydrate"
        )
    return True


async def _create(driver: Driver, command: Document) -> None:
    try:
        await driver.write(command)
    except StoreUnavailableError as error:
        cause = error.__cause__
        if not (isinstance(cause, OperationFailure) and cause.code == failures.NAMESPACE_EXISTS):
            raise
