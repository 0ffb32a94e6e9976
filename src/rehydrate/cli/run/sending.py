"""One command, with its repeats: an error that may pass is tried again, under the same id and within bounds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from rehydrate.cli.run.commands import Order
from rehydrate.domain.envelope import CommandResult
from rehydrate.errors import (
    CommandTimeoutError,
    MailboxFullError,
    OutcomeUnknownError,
    RehydrateError,
    StoreClosedError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.runtime.runtime import Runtime

PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each repeat."""

_MAY_PASS: Final = (
    CommandTimeoutError,
    MailboxFullError,
    OutcomeUnknownError,
    StoreUnavailableError,
    VersionConflictError,
)


def is_stores_fault(error: RehydrateError) -> bool:
    """Whether the next command would fare no better: the store cannot be used, the line is not to blame."""
    return isinstance(
        error,
        CommandTimeoutError
        | OutcomeUnknownError
        | StoreClosedError
        | StoreSealedError
        | StoreUnavailableError,
    )


class Sender:
    """Sends orders to a runtime until they have an answer that is not a passing one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._halted = asyncio.Event()

    def halt(self) -> None:
        """Nothing is tried again from now on."""
        self._halted.set()

    async def send(
        self,
        order: Order,
        command_id: str | None,
        caused_at: int | None,
    ) -> CommandResult[Any]:
        """The result of a command. Raises its `Rejection`, or the last error."""
        for pause in PAUSES:
            try:
                return await self._dispatch(order, command_id, caused_at)
            except _MAY_PASS as error:
                if isinstance(error, StoreUnavailableError) and not error.retryable:
                    raise
                if isinstance(error, OutcomeUnknownError):
                    command_id = error.command_id
                if await self._is_halted_within(pause):
                    raise
        return await self._dispatch(order, command_id, caused_at)

    async def _dispatch(
        self, order: Order, command_id: str | None, caused_at: int | None
    ) -> CommandResult[Any]:
        return await self._runtime.dispatch(
            order.aggregate,
            order.id,
            order.command,
            command_id=command_id,
            caused_at=caused_at,
            metadata=order.metadata,
        )

    async def _is_halted_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._halted.wait()
        except TimeoutError:
            return False
