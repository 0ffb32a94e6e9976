"""What is done with an answer before its caller has it."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from rehydrate.domain.rejection import Rejection
from rehydrate.errors import RehydrateError


def leave_frames(error: Exception) -> None:
    """Forget the frames that an answer came through: with it, the caller would keep the actor alive."""
    if isinstance(error, Rejection | RehydrateError):
        error.__traceback__ = None


def own(error: Exception) -> Exception:
    """An error that many are answered with, for one of them: what he adds to it, or its traceback, is no other's."""
    if not isinstance(error, RehydrateError):
        return error
    try:
        his = copy.copy(error)
    except Exception:  # noqa: BLE001 - it is of a store's own class, and an answer that is shared is better than none
        return error
    his.__cause__ = error.__cause__
    return his


def look(reply: asyncio.Future[Any]) -> None:
    """Whoever drops a future does not care: asyncio need not complain that nobody looked."""
    if not reply.cancelled():
        reply.exception()
