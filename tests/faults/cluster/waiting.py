"""Waiting for what other processes do, in several tasks at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

LIMIT: Final = 90.0
"""Seconds after which a service that has not resumed by itself is taken for one that does not: these machines are busy."""
_LOOK: Final = 0.02


async def until(condition: Callable[[], bool | Awaitable[bool]], *, limit: float = LIMIT) -> None:
    """Look again and again until it holds; a `TimeoutError` where it does not."""
    async with asyncio.timeout(limit):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(_LOOK)
