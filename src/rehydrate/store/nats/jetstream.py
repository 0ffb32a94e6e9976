"""What is asked of JetStream, as it goes over the wire: its leaders for what must be true, any replica for pages."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.msg import Msg

from rehydrate.errors import StoreUnavailableError
from rehydrate.nats.connection import Connection
from rehydrate.store.nats.failures import (
    END_OF_BATCH,
    NO_MESSAGE,
    NOT_FOUND,
    TOO_MANY,
    ApiError,
    JetStreamError,
)
from rehydrate.store.nats.questions import NoAnswerError, Questions
from rehydrate.store.nats.turns import Turns

T = TypeVar("T")

PAUSE: Final = 0.05
_IN_TOUCH: Final = 2_500_000_000
"""Nanoseconds. Replicas answer their leader every second, and elect another after four at the earliest."""
LED_ON: Final = 1.0
"""Seconds for which who was in touch with them is the leader for certain; half a second is left for clocks and ways."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """A stored message."""

    subject: str
    number: int
    """Which message of its JetStream stream it is, from 1 on."""
    data: bytes
    stored_at: str = ""
    """By the server's clock, as it writes it; with the number it tells the message from any of another history."""


class Batch(msgspec.Struct, frozen=True):
    """Consecutive messages, as a replica has them."""

    messages: list[Message]
    is_end: bool
    """Whether the replica had no more."""
    is_too_much: bool = False
    """Whether it was asked for more subjects than it counts."""


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """The answer to a message that is to be stored."""

    seq: int = 0
    error: ApiError | None = None


class _Stored(msgspec.Struct, frozen=True):
    subject: str
    seq: int
    data: bytes = b""
    time: str = ""


class _Replica(msgspec.Struct, frozen=True):
    active: int = 0
    """Nanoseconds since the leader last heard of it."""


class _Cluster(msgspec.Struct, frozen=True):
    replicas: list[_Replica] = []


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0
    last_ts: str = ""


class _GotInfo(msgspec.Struct, frozen=True):
    state: _State = _State()
    cluster: _Cluster | None = None
    error: ApiError | None = None


class _GotMessage(msgspec.Struct, frozen=True):
    message: _Stored | None = None
    error: ApiError | None = None


_NO_LEADER: Final = b'"err_code":10008,'
"""The servers have no leader of their own for the moment."""
_ERROR_WITHIN: Final = 200
"""Bytes at the beginning of an answer in which it says so."""
decode_ack: Final = msgspec.json.Decoder(PubAck).decode
_decode_info: Final = msgspec.json.Decoder(_GotInfo).decode
_decode_message: Final = msgspec.json.Decoder(_GotMessage).decode
_encode: Final = msgspec.json.encode


class JetStream:
    """Questions to JetStream. They are asked again until the time is over, for a leader may be missing for seconds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shown = connection.address.shown
        self._timeout = connection.address.timeout
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._timeout)
        self._questions = Questions(connection, self._timeout)

    # ---- messages

    async def last(self, stream: str, subject: str) -> Message | None:
        """The newest message of a subject, or `>`, as the leader knows it."""
        return await self._message(stream, {"last_by_subj": subject})

    async def next(self, stream: str, subject: str, number: int) -> Message | None:
        """The first message of a subject or pattern from a number on, as the leader knows it."""
        return await self._message(stream, {"seq": number, "next_by_subj": subject})

    async def _message(self, stream: str, body: Mapping[str, Any]) -> Message | None:
        answer = _decode_message(await self._ask(f"$JS.API.STREAM.MSG.GET.{stream}", body))
        if answer.message is not None:
            stored = answer.message
            return Message(stored.subject, stored.seq, stored.data, stored.time)
        error = answer.error or ApiError()
        if error.err_code == NO_MESSAGE:
            return None
        raise self.refused(JetStreamError(error))

    async def is_led(self, stream: str) -> bool:
        """Whether the leader that answers is in touch with a majority.

        One that was cut off goes on to answer for some seconds after the others have elected another.
        """
        answer = await self._info(stream)
        others = [] if answer.cluster is None else answer.cluster.replicas
        in_touch = sum(replica.active < _IN_TOUCH for replica in others)
        return 2 * (in_touch + 1) > len(others) + 1

    async def mark(self, stream: str) -> tuple[int, str]:
        """Number and time of the newest message, without the message, as the leader knows it."""
        state = (await self._info(stream)).state
        return state.last_seq, state.last_ts

    async def _info(self, stream: str) -> _GotInfo:
        answer = _decode_info(await self._ask(f"$JS.API.STREAM.INFO.{stream}", None))
        if answer.error is not None:
            raise self.refused(JetStreamError(answer.error))
        return answer

    async def batch(self, stream: str, subject: str, number: int, limit: int, max_bytes: int) -> Batch:
        """Messages of a subject or pattern from a number on, as any replica has them."""
        body = _encode({"seq": number, "batch": limit, "next_by_subj": subject, "max_bytes": max_bytes})
        return await self._collect(stream, body)

    async def first_of_newest(self, stream: str, subjects: Sequence[str], number: int, upto: int) -> Batch:
        """Of the newest message of each subject up to a number, the first from another number on: as one replica has them,
        and all of it at one moment.
        """
        body = _encode({"multi_last": subjects, "seq": number, "up_to_seq": upto, "batch": 1})
        return await self._collect(stream, body)

    async def _collect(self, stream: str, body: bytes) -> Batch:
        batch: Batch = await self._in_turn(
            self._questions.ask(f"$JS.API.DIRECT.GET.{stream}", body, _Collected)
        )
        return batch

    # ---- the rest of the API

    async def api(self, operation: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the API. Raises `JetStreamError` where it refuses, `StoreUnavailableError` where nobody answers."""
        payload = await self._ask(f"$JS.API.{operation}", body)
        answer: dict[str, Any] = msgspec.json.decode(payload)
        if "error" in answer:
            raise JetStreamError(msgspec.convert(answer["error"], ApiError))
        return answer

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """All subjects of a pattern that have messages, in any order."""
        found: dict[str, None] = {}
        seen = 0
        while True:
            info = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": seen})
            page: dict[str, int] = info["state"].get("subjects") or {}
            # One that came since the page before moves the others on, and so the last of that one here.
            found.update(dict.fromkeys(page))
            seen += len(page)
            if not page or seen >= info.get("total", 0):
                return list(found)

    def refused(self, error: JetStreamError) -> StoreUnavailableError:
        """An answer that nobody has provided for."""
        return StoreUnavailableError(f"{self._shown}: JetStream refuses: {error}", retryable=error.is_passing)

    async def _ask(self, subject: str, body: Mapping[str, Any] | None) -> bytes:
        """Ask until there is an answer; whatever it is, the question can be asked twice."""
        payload = b"" if body is None else _encode(body)
        answer: bytes = await self._in_turn(self._questions.ask(subject, payload, _Single))
        return answer

    async def _in_turn(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            await self._turns.take()
        except BaseException as error:
            question.close()
            if isinstance(error, TimeoutError):
                raise StoreUnavailableError(
                    f"{self._shown} gives no answer: {self._connection.why_not}"
                ) from None
            raise
        is_answered = False
        try:
            answer = await question
            is_answered = True
            return answer
        finally:
            self._turns.give_back(answered=is_answered)


class _Single:
    """An answer of one message."""

    def __init__(self) -> None:
        self._data = b""

    def take(self, message: Msg) -> bool:
        if _NO_LEADER in message.data[:_ERROR_WITHIN]:
            # A server that knows none for them all says so at once; the leader of this stream may answer all the same.
            raise NoAnswerError("the servers have no leader", is_last=False)
        self._data = message.data
        return False

    def whole(self) -> bytes:
        return self._data


class _Collected:
    """The messages of one batch, as they come in."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._is_end = self._is_too_much = False

    def take(self, message: Msg) -> bool:
        headers = message.headers or {}
        status = headers.get("Status")
        if status == TOO_MANY:
            self._is_too_much = True
            return False
        if int(headers.get("Nats-Last-Sequence", 0)) != (self._messages[-1].number if self._messages else 0):
            # A connection between servers may break, and be there again, in the middle of a batch.
            raise NoAnswerError("a part of a page was lost on its way")
        if "Nats-Sequence" in headers:
            self._messages.append(
                Message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data)
            )
            return True
        if status not in (END_OF_BATCH, NOT_FOUND):
            raise NoAnswerError(f"status {status} {headers.get('Description', '')}")
        self._is_end = status == NOT_FOUND or headers.get("Nats-Num-Pending") == "0"
        return False

    def whole(self) -> Batch:
        return Batch(self._messages, self._is_end, self._is_too_much)
