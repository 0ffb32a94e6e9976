"""One event loop on one thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from rehydrate.errors import StoreClosedError

_log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH: Final = 256
_LEFT: Final = "this runtime was closed, or belongs to another process: open the App again"


class Portal:
    """Runs coroutines for other threads; one loop for its whole life, so that nothing is bound to a dead one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rehydrate", daemon=True)
        self._lock = threading.Lock()
        """Held while a call is handed in, so that none comes behind the last turn of the loop."""
        self._is_left = False
        self._is_stopped = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In a forked child the thread is not alive, the lock may be held for ever, and the loop is the parent's.
        if not self._thread.is_alive():
            return
        with self._lock:
            self._is_left = True
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()

    def _stop(self) -> None:
        self._is_stopped = True
        self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._is_stopped:
                self._run_on()
            # What other threads still wait for ends, so that they do.
            if tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(tasks))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _run_on(self) -> None:
        try:
            self._loop.run_forever()
        except (KeyboardInterrupt, SystemExit) as error:
            # Of the user's code. It ends an event loop, but the program ends in another thread: whoever waits there must
            # not wait for ever.
            _log.error(
                "%r was raised in the thread of a runtime, where it ends nothing", error, exc_info=error
            )

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait for it here.

        Raises what it raises, and `StoreClosedError` once the portal was left, or in a forked child, where its thread
        does not exist.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "a sync call from within the event loop would wait for itself: use the async Runtime"
            )
        # In a forked child the thread is not alive, and the lock may be held for ever.
        if not self._thread.is_alive():
            work.close()
            raise StoreClosedError(_LEFT)
        with self._lock:
            if self._is_left:
                work.close()
                raise StoreClosedError(_LEFT)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            if self._is_left:
                raise StoreClosedError(_LEFT) from None
            raise

    @contextmanager
    def enter(self, manager: AbstractAsyncContextManager[T]) -> Generator[T]:
        """Hold an async context manager open from here."""
        value = self.call(_enter(manager))
        try:
            yield value
        except BaseException as error:
            if not self.call(_leave(manager, error)):
                raise
        else:
            self.call(_leave(manager, None))

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, fetched in batches; an error comes after the items before it."""
        while True:
            batch, error = self.call(_take(items, _BATCH))
            yield from batch
            if error is not None:
                raise error
            if len(batch) < _BATCH:
                return


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any], error: BaseException | None) -> bool:
    return bool(
        await manager.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
    )


async def _take(items: AsyncIterator[T], count: int) -> tuple[list[T], Exception | None]:
    taken: list[T] = []
    while len(taken) < count:
        try:
            taken.append(await anext(items))
        except StopAsyncIteration:
            break
        except Exception as error:  # noqa: BLE001 - raised where the items are asked for
            return taken, error
    return taken, None
