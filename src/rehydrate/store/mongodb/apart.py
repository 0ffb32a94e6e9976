"""Tasks that are no part of the program's: who ends all tasks of the loop does not meet them.

The driver is not made for it. It watches over its servers in tasks of its own, which it never begins again, so that it
would find no primary any more once a connection has broken. And who is cancelled twice while he waits for a connection
of its pool may leave the pool locked for ever.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio.tasks import _unregister_task  # pyright: ignore[reportPrivateUsage]  # "Extending asyncio" has it.
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

from pymongo import AsyncMongoClient, monitoring
from pymongo.errors import AutoReconnect

Apart = TypeVar("Apart", bound="asyncio.Task[Any]")

_OF_THE_DRIVER: Final = "pymongo_"
"""What the names of its tasks begin with."""


def apart(task: Apart) -> Apart:
    """Take a task out of `asyncio.all_tasks()`. It goes on until it ends by itself, or is cancelled by whoever has it."""
    _unregister_task(task)
    # Where a program ends without having closed its store, it is not told of each, either.
    setattr(task, "_log_destroy_pending", False)  # noqa: B010
    return task


async def connect_apart(client: AsyncMongoClient[Any]) -> None:
    """Have the driver begin to watch over its servers."""
    before = asyncio.all_tasks()
    await client.aconnect()
    # Now, in the turn in which they were made: a task that is cancelled before its first step never begins.
    for task in asyncio.all_tasks() - before:
        if task.get_name().startswith(_OF_THE_DRIVER):
            apart(task)


class WatchersApart(monitoring.ServerHeartbeatListener):
    """Hears of every look at a server, in the task that looks: that of a member which joined later, too.

    What such a task waits for may be a task again, which can be ended, and ends it. The driver would not begin it anew.
    """

    def __init__(self) -> None:
        self.is_needed = True
        self._known: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._client: weakref.ref[AsyncMongoClient[Any]] | None = None

    def are_of(self, client: AsyncMongoClient[Any]) -> None:
        self._client = weakref.ref(client)

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        task = asyncio.current_task()
        if task is not None and task not in self._known:
            self._known.add(task)
            apart(task).add_done_callback(partial(self._ended, event.connection_id))

    def _ended(self, address: tuple[str, int | None], task: asyncio.Task[Any]) -> None:
        client = None if self._client is None else self._client()
        if not (self.is_needed and task.cancelled() and client is not None):
            return
        if address not in client.topology_description.server_descriptions():
            return  # It is no member any more.
        # The driver's own way to begin anew passes over a task that was cancelled.
        topology: Any = client._topology  # pyright: ignore[reportPrivateUsage]
        watcher = topology._servers[address]._monitor._executor
        watcher._task = None
        watcher.open()
        apart(cast("asyncio.Task[Any]", watcher._task))

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None: ...
    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None: ...


@contextmanager
def cut_off_is_lost() -> Generator[None]:
    """The driver waits for answers in tasks that come and go: if somebody ends one of those, it is a lost connection."""
    try:
        yield
    except asyncio.CancelledError as cause:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise AutoReconnect("somebody ended the task that waited for the answer") from cause
