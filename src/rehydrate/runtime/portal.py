"""One event loop on one thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from rehydrate.errors import StoreClosedError

T = TypeVar("T")

_BATCH = 256


class Portal:
    """Runs coroutines for other threads; one loop for its whole life, so that nothing is bound to a dead one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rehydrate", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait for it here.

        Raises what it raises, and `StoreClosedError` once the portal was left, or in a forked child, where its thread
        does not exist.
        """
        if not self._thread.is_alive():
            work.close()
            raise StoreClosedError("this runtime was closed, or belongs to another process: open the App again")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a sync call from within the event loop would wait for itself: use the async Runtime")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

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
        """The items, fetched in batches."""
        while batch := self.call(_take(items, _BATCH)):
            yield from batch


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any], error: BaseException | None) -> bool:
    return bool(await manager.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None))


async def _take(items: AsyncIterator[T], count: int) -> list[T]:
    taken: list[T] = []
    while len(taken) < count:
        try:
            taken.append(await anext(items))
        except StopAsyncIteration:
            break
    return taken
