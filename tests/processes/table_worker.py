"""A process that runs a transactional handler in children, each of which kills itself at one of its steps.

python -m tests.processes.table_worker KIND URL

Child number n dies at the n-th of these moments: before a transaction, in the handler after it has written, after the
transaction was acknowledged. The last one survives.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from rehydrate import App, Limits, TransactionalHandler, open_store
from rehydrate.store.port import Store
from rehydrate.testing.clock import until
from tests.bank import Deposit, account
from tests.processes.test_transactional import OnMongodb, OnPostgres, OnSqlite

KINDS: dict[str, Any] = {"sqlite": OnSqlite, "postgres": OnPostgres, "mongodb": OnMongodb}
LIMITS = Limits(takeover_after=0.4, shutdown_timeout=5)
EVENTS = 6


class Deadly:
    """A store whose user is killed at a step of a transaction."""

    def __init__(self, store: Store, at: int) -> None:
        self._store = store
        self._left = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def transact(self, *place: Any, change: Callable[[Any], Any], **others: Any) -> bool:
        def dying(connection: Any) -> None:
            change(connection)
            self._step()

        async def dying_async(connection: Any) -> None:
            await change(connection)
            self._step()

        self._step()
        inside = dying_async if inspect.iscoroutinefunction(change) else dying
        store: Any = self._store
        saved: bool = await store.transact(*place, change=inside, **others)
        self._step()
        return saved


async def child(kind: str, url: str, number: int) -> None:
    handler = TransactionalHandler(name="balances", handler=KINDS[kind].handler, batch=5)
    app = App(aggregates=[account], transactional=[handler])
    store = await open_store(url)
    deadly: Any = Deadly(store, number)
    async with app.open(deadly, limits=LIMITS) as bank:
        head = (await store.head()).position
        await until(lambda: bank.statistics().consumers[0].position >= head)
    await store.close()


async def opened(url: str) -> None:
    async with App(aggregates=[account]).open(url) as bank:
        for n in range(EVENTS):
            await bank.dispatch(account, f"a{n % 3}", Deposit(n + 1))


def main(kind: str, url: str) -> None:
    OnMongodb.collection = url.partition("?")[0].rpartition("/")[2]
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(child(kind, url, number))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
    assert code == 0
    print(number - 1)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    asyncio.run(opened(sys.argv[2]))
    main(sys.argv[1], sys.argv[2])
