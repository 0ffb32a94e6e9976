"""One connection to NATS: questions with many answers under way at a time, and one subscription for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as ClientError

from rehydrate.errors import ConfigurationError, StoreClosedError, StoreUnavailableError
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.nats.address import NatsAddress
from rehydrate.nats.nearest import nearest_first
from rehydrate.nats.transport import TidyTransport, UnencryptedError

logger = logging.getLogger(__name__)

PING_EVERY: Final = 1
"""Seconds between two looks at whether the server is still there."""
_PINGS_LOST: Final = 2
_RECONNECT_AFTER: Final = 0.1
_SWEEP_EVERY: Final = 0.05
_CLOSE_WITHIN: Final = 2.0
_NO_RESPONDERS: Final = "503"

_abandoned: list[object] = []
"""Connections of the process from which this one was forked: to close one here would close it there."""


class NotAnswered(msgspec.Struct, frozen=True):
    """No answer came."""

    reason: str
    is_sent: bool
    """Whether the question may have reached somebody."""
    has_nobody: bool = False
    """Nobody listens to this subject now: no responders."""


Answered: TypeAlias = Callable[[Msg | NotAnswered], bool]
"""Called on the event loop for each answer, never from within `call`; true while more are expected."""


class NotAnsweredError(Exception):
    """A question remained without an answer."""

    def __init__(self, what: NotAnswered) -> None:
        super().__init__(what.reason)
        self.reason = what.reason
        self.is_sent = what.is_sent
        self.has_nobody = what.has_nobody


class _Call:
    __slots__ = ("answered", "deadline", "is_sent", "patience")

    def __init__(self, answered: Answered, patience: float, deadline: float) -> None:
        self.answered = answered
        self.patience = patience
        self.deadline = deadline
        self.is_sent = False


_Message: TypeAlias = tuple[str, bytes, str, Mapping[str, str] | None]
"""Subject, payload, the token by which it is answered (empty for none), headers."""


class Connection:
    """Connects again for ever, by itself. What was sent over a connection that is lost is `NotAnswered`."""

    def __init__(
        self,
        address: NatsAddress,
        *,
        name: str = "rehydrate",
        lost: Callable[[], None] = lambda: None,
        regained: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self._name = name
        self._lost = lost
        self._regained = regained
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._inbox = ""
        self._listening: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self._calls: dict[str, _Call] = {}
        self._numbered = 0
        self._outgoing: deque[_Message] = deque()
        self._more = asyncio.Event()
        self._connected = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._closed: str | None = None
        self._last_error = ""
        self._refused: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: the servers do not let us in, or do not encrypt.
            StoreUnavailableError: none was reached in time.
        """
        bind_to_process(self)
        try:
            async with asyncio.timeout(self.address.timeout):
                await self._connect()
        except TimeoutError:
            await self.close()
            why = self._last_error or "no answer came"
            raise StoreUnavailableError(f"{self.address.shown} cannot be reached: {why}") from None
        except BaseException:
            await self.close()
            raise
        self._pump = self._loop.create_task(self._send_all())

    @property
    def client(self) -> Client:
        """nats-py's own, for what is not asked and answered; another one after the servers have closed it."""
        if self._closed is not None:
            raise StoreClosedError(self._closed)
        if self._client is None:
            raise StoreUnavailableError(f"{self.address.shown} is not connected")
        return self._client

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    @property
    def closed(self) -> str | None:
        """Why it is closed, if it is."""
        return self._closed

    @property
    def why_not(self) -> str:
        """Why no answer has come."""
        if self._connected.is_set() or not self._last_error:
            return "no answer came in time"
        return f"it is not connected ({self._last_error})"

    @property
    def max_payload(self) -> int:
        """Bytes of a message, with its headers, that the server takes."""
        return 0 if self._client is None else self._client.max_payload

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server says of itself when one connects to it."""
        return self.client._server_info  # pyright: ignore[reportPrivateUsage]

    async def listen(self, subject: str, heard: Callable[[Msg], Awaitable[None]]) -> None:
        """Have each message of a subject handed over, from now on and after each reconnection."""
        self._listening[subject] = heard
        await self.client.subscribe(subject, cb=heard)  # pyright: ignore[reportUnknownMemberType]

    # ---- asking

    def call(
        self,
        subject: str,
        payload: bytes,
        answered: Answered,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Ask, and have each answer handed over; `timeout` is for the first, and for each that follows."""
        patience = self.address.timeout if timeout is None else timeout
        call = _Call(answered, patience, self._loop.time() + patience)
        self._numbered += 1
        token = str(self._numbered)
        self._calls[token] = call
        if self._closed is not None:
            self._loop.call_soon(self._answer, token, NotAnswered(self._closed, is_sent=False))
            return
        self._outgoing.append((subject, payload, token, headers))
        self._more.set()
        if self._sweep is None:
            self._sweep = self._loop.call_later(_SWEEP_EVERY, self._sweep_calls)

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Msg:
        """The one answer to a question. Raises `NotAnsweredError`."""
        answer: asyncio.Future[Msg | NotAnswered] = self._loop.create_future()

        def answered(message: Msg | NotAnswered) -> bool:
            if not answer.done():
                answer.set_result(message)
            return False

        self.call(subject, payload, answered, headers=headers, timeout=timeout)
        got = await answer
        if isinstance(got, NotAnswered):
            raise NotAnsweredError(got)
        return got

    def tell(self, subject: str, payload: bytes = b"", *, headers: Mapping[str, str] | None = None) -> None:
        """Send what nobody answers, behind all that was sent before it; lost while there is no connection."""
        if self._connected.is_set() and self._closed is None:
            self._outgoing.append((subject, payload, "", headers))
            self._more.set()

    async def _send_all(self) -> None:
        while True:
            await self._more.wait()
            await self._connected.wait()
            self._more.clear()
            while self._outgoing and self._connected.is_set():
                await self._send(*self._outgoing.popleft())
            if self._outgoing:
                self._more.set()

    async def _send(
        self, subject: str, payload: bytes, token: str, headers: Mapping[str, str] | None
    ) -> None:
        call = self._calls.get(token)
        if token and call is None:
            return  # Its time is over.
        if call is not None:
            call.is_sent = True
        reply = self._inbox + token if token else ""
        client = self._client
        assert client is not None
        try:
            await client.publish(subject, payload, reply, dict(headers) if headers is not None else None)
        except (ClientError, OSError) as error:
            if call is not None:
                # It was not handed to the socket.
                self._answer(token, NotAnswered(self._sentence(error), is_sent=False))
        except Exception as error:
            # Whatever it is, what waits behind this message has to be sent as well.
            logger.exception("%s: a message was not sent", self.address.shown)
            if token in self._calls:
                self._give_up(token, self._sentence(error))

    async def _received(self, message: Msg) -> None:
        token = message.subject[len(self._inbox) :]
        headers = message.headers
        if headers is not None and not message.data and headers.get("Status") == _NO_RESPONDERS:
            reason = f"nobody answers to {message.subject}" if token not in self._calls else "nobody answers"
            self._answer(token, NotAnswered(reason, is_sent=True, has_nobody=True))
        else:
            self._answer(token, message)

    def _answer(self, token: str, message: Msg | NotAnswered) -> None:
        call = self._calls.get(token)
        if call is None:
            return
        if isinstance(message, NotAnswered):
            del self._calls[token]
        goes_on = False
        try:
            goes_on = call.answered(message)
        finally:
            if goes_on:
                call.deadline = self._loop.time() + call.patience
            else:
                self._calls.pop(token, None)

    def _sweep_calls(self) -> None:
        now = self._loop.time()
        if not self._connected.is_set():
            self._look_after_client()
        late = [token for token, call in self._calls.items() if call.deadline < now]
        for token in late:
            self._give_up(token, self.why_not)
        self._sweep = self._loop.call_later(_SWEEP_EVERY, self._sweep_calls) if self._calls else None

    def _give_up(self, token: str, reason: str) -> None:
        call = self._calls[token]
        try:
            self._answer(token, NotAnswered(reason, is_sent=call.is_sent))
        except Exception:
            # The others have to hear of their end as well.
            logger.exception("%s: an answer was not taken", self.address.shown)

    # ---- connecting

    async def _connect(self) -> None:
        address = self.address
        client = Client()
        client._transport = TidyTransport(must_encrypt=address.tls)  # pyright: ignore[reportPrivateUsage]
        self._refused = self._loop.create_future()
        connecting = self._loop.create_task(
            client.connect(
                nearest_first(address.servers),
                # In this order, so that after a loss the one that was lost is tried last.
                dont_randomize=True,
                name=self._name,
                user=address.user,
                password=address.password,
                token=address.token,
                tls=address.ssl_context() if address.tls else None,
                connect_timeout=max(1, round(min(address.timeout, 2.0))),
                reconnect_time_wait=_RECONNECT_AFTER,  # type: ignore[arg-type] # it sleeps for so long
                max_reconnect_attempts=-1,
                ping_interval=PING_EVERY,
                max_outstanding_pings=_PINGS_LOST,
                pending_size=-1,
                skip_subject_validation=True,
                error_cb=self._on_error,
                disconnected_cb=self._on_lost,
                reconnected_cb=self._on_regained,
                closed_cb=self._on_closed,
            )
        )
        try:
            await asyncio.wait([connecting, self._refused], return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                self._refused.result()
            await connecting
            self._inbox = client.new_inbox() + "."
            await client.subscribe(  # pyright: ignore[reportUnknownMemberType]
                self._inbox + "*", cb=self._received, pending_msgs_limit=0, pending_bytes_limit=0
            )
            for subject, heard in self._listening.items():
                await client.subscribe(subject, cb=heard)  # pyright: ignore[reportUnknownMemberType]
        except BaseException:
            connecting.cancel()
            await asyncio.wait([connecting])
            await _close(client)
            raise
        finally:
            self._refused = None
        self._client = client
        self._connected.set()

    async def _on_error(self, error: Exception) -> None:
        self._last_error = self._sentence(error)
        if self._refused is None or self._refused.done():
            logger.debug("%s: %s", self.address.shown, self._last_error)
        elif isinstance(error, UnencryptedError):
            self._refused.set_exception(ConfigurationError(f"{self.address.shown}: {error}"))
        elif "authorization" in str(error).lower():
            self._refused.set_exception(
                ConfigurationError(
                    f"{self.address.shown} does not let us in: check user and password, or the token, in the URL"
                )
            )

    async def _on_lost(self) -> None:
        if not self._connected.is_set():
            return
        self._connected.clear()
        logger.debug("%s: the connection is lost", self.address.shown)
        self._lost()
        # Also what was not sent: it was to arrive behind the rest.
        self._outgoing.clear()
        for token in list(self._calls):
            if token in self._calls:
                self._give_up(token, "the connection was lost")

    async def _on_regained(self) -> None:
        self._connected.set()
        self._regained()

    async def _on_closed(self) -> None:
        """The servers may close a connection for good, where another one is welcome."""
        if self._closed is None and self._refused is None and self._reopening is None:
            await self._on_lost()
            self._reopening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        try:
            while True:
                await asyncio.sleep(_RECONNECT_AFTER)
                try:
                    await self._connect()
                except ConfigurationError as error:
                    logger.warning("%s", error)
                    continue
                except (ClientError, OSError) as error:
                    logger.debug("%s: %s", self.address.shown, self._sentence(error))
                    continue
                self._regained()
                return
        finally:
            self._reopening = None

    def _look_after_client(self) -> None:
        """A client whose task of connecting again has died would never do it, nor say so: it is closed, for another one."""
        client = self._client
        if client is None:
            return
        task = client._reconnection_task  # pyright: ignore[reportPrivateUsage]
        if task is None or not task.done() or task.cancelled() or task.exception() is None:
            return
        if self._reopening is None and self._closed is None:
            logger.error(
                "%s: connecting again failed in an unforeseen way: %r", self.address.shown, task.exception()
            )
            self._reopening = self._loop.create_task(self._replace(client))

    async def _replace(self, client: Client) -> None:
        await _close(client)
        await self._reopen()

    # ---- closing

    async def close(self) -> None:
        """Give the connection back; who still waits is not answered. Returns within a few seconds."""
        if self._closed is not None:
            return
        self._closed = "it is closed: open it again"
        tasks = [task for task in (self._pump, self._reopening) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._client is not None:
            await _close(self._client)
        self._connected.clear()
        for token in list(self._calls):
            self._give_up(token, self._closed)
        if self._sweep is not None:
            self._sweep.cancel()

    def forked(self) -> None:
        self._closed = FORKED
        _abandoned.append((self._client, self._pump, self._reopening))
        self._calls = {}
        self._outgoing.clear()
        self._connected.clear()

    def _sentence(self, error: Exception) -> str:
        return self.address.without_secrets(f"{type(error).__name__}: {error}" if str(error) else repr(error))


async def _close(client: Client) -> None:
    transport = client._transport  # pyright: ignore[reportPrivateUsage]
    try:
        async with asyncio.timeout(_CLOSE_WITHIN):
            await client.close()
    except (ClientError, OSError, TimeoutError) as error:
        logger.debug("while closing: %r", error)
    # A client that is just connecting again may have missed that it was told to stop.
    reconnecting = client._reconnection_task  # pyright: ignore[reportPrivateUsage]
    while reconnecting is not None and not reconnecting.done():
        reconnecting.cancel()
        await asyncio.wait([reconnecting], timeout=_RECONNECT_AFTER)
    if isinstance(transport, TidyTransport):
        transport.abort()
        # What is aborted is closed in the next turn of the event loop.
        await asyncio.sleep(0)
