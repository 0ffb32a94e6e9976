"""Whether the servers write to disk before they acknowledge: only their system account knows, and it may be asked for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec
from nats.aio.msg import Msg

from rehydrate.nats.connection import Connection, NotAnswered

logger = logging.getLogger(__name__)

_SUBJECT: Final = "$SYS.REQ.SERVER.PING.JSZ"
_QUESTION: Final = b'{"config":true}'
_LISTEN_FOR: Final = 0.2
"""Seconds for the next server to answer: nobody says how many there are."""


class _Config(msgspec.Struct):
    sync_always: bool = False
    sync_interval: int = 0
    """Nanoseconds."""


class _Data(msgspec.Struct):
    config: _Config | None = None


class _Server(msgspec.Struct):
    name: str = "?"


class _Answer(msgspec.Struct):
    server: _Server
    data: _Data | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


async def warn_if_lossy(connection: Connection) -> None:
    """Log a warning where a power failure may take what was acknowledged, or where nobody says that it may not."""
    shown = connection.address.shown
    answers = await _ask_all(connection)
    lossy = [answer.server.name for answer in answers if _is_lossy(answer)]
    if lossy:
        seconds = max(_interval(answer) for answer in answers if _is_lossy(answer))
        logger.warning(
            "%s: %s write to disk only every %d s, and what they acknowledged since is lost when the power fails: put "
            "`sync_interval: always` into the jetstream block of their configuration",
            shown,
            ", ".join(sorted(lossy)),
            seconds,
        )
    elif not answers:
        logger.warning(
            "%s does not say whether it writes to disk before it acknowledges; if it does not, a power failure loses what "
            "was acknowledged within the last two minutes: check that its jetstream block says `sync_interval: always`, and "
            "then put sync=always into the URL",
            shown,
        )


async def _ask_all(connection: Connection) -> list[_Answer]:
    answers: list[_Answer] = []
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(message: Msg | NotAnswered) -> bool:
        if isinstance(message, NotAnswered):
            if not ended.done():
                ended.set_result(None)
            return False
        try:
            answers.append(_decode(message.data))
        except msgspec.DecodeError as error:
            logger.debug("%s: no answer of a server: %s", connection.address.shown, error)
        return True

    connection.call(_SUBJECT, _QUESTION, answered, timeout=_LISTEN_FOR)
    await ended
    return [answer for answer in answers if answer.data is not None and answer.data.config is not None]


def _is_lossy(answer: _Answer) -> bool:
    return answer.data is not None and answer.data.config is not None and not answer.data.config.sync_always


def _interval(answer: _Answer) -> int:
    return (
        0 if answer.data is None or answer.data.config is None else answer.data.config.sync_interval // 10**9
    )
