"""The time in which a consumer holds its name: where it is, what it reads, and every save under its epoch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec

from rehydrate.clock import Clock
from rehydrate.errors import CorruptStoreError, StoreUnavailableError
from rehydrate.runtime.limits import Limits
from rehydrate.store.port import (
    PAGE_SIZE,
    Checkpoint,
    LogFilter,
    LogPage,
    Store,
    StoredEvent,
    ViewChange,
)
from rehydrate.store.transactional import TransactionalStore

_log = logging.getLogger(__name__)

T = TypeVar("T")

_NOTICED: Final = 8
"""How often the store is asked in vain, which takes some seconds, before anybody is told."""

Wait: TypeAlias = Callable[[], Coroutine[Any, Any, object]]


class TakenOverError(Exception):
    """Somebody else has the name now: nothing of this holder's counts any more."""


class ClosingError(Exception):
    """The consumer is to end: what was saved is all that was done."""


class StoppedError(Exception):
    """The consumer stands still until somebody resumes it (`__cause__` has why, where an exception made it)."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every consumer keeps in the data of its checkpoint, for those who look at it from outside."""

    holder: str = ""
    """Who saved it: tells an own save whose answer was lost from that of somebody who took over."""
    fingerprint: str = ""
    """Of the type of the views."""
    built: bool = False
    """Whether it has been at the end of the log."""
    parked: int = 0
    handled: int = 0
    rate: float = 0.0
    """Events a second, lately."""
    saved_at: int = 0
    """Microseconds since 1970, UTC."""
    deaths: int = 0
    """How many holders of a projection in a row did not end in order, before any of them came to the end of the log."""
    attempted: int = 0
    """The position of an event that is folded by itself, after such ends."""
    attempts: int = 0
    """How often that was begun."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


def kept_in(checkpoint: Checkpoint) -> Kept:
    """What a consumer keeps. Raises `CorruptStoreError` for what no consumer has written."""
    if not checkpoint.data:
        return Kept()
    try:
        return _decode(checkpoint.data)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(f"checkpoint {checkpoint.name!r} is of no consumer: {error}") from error


class Progress:
    """What is known in this process of a consumer, and who waits for it to get further."""

    def __init__(self) -> None:
        self.position = 0
        """Everything up to there was handled, and what that changed is saved."""
        self.head = 0
        """The newest position that was seen."""
        self.handled = 0
        self.parked = 0
        self.held_until = 0.0
        """On the monotonic clock: before that nobody takes the name of a holder that is silent from now on."""
        self._waiting: set[Reaching] = set()
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """Why the store does not do what it is asked for, again and again; empty while it does."""
        return next(iter(self._troubles.values()), "")

    def failed(self, name: str, what: str, error: StoreUnavailableError, tries: int) -> None:
        """The store has failed at something so often; it is said once, and at once where waiting does not help."""
        if what not in self._troubles and (tries >= _NOTICED or not error.retryable):
            self._troubles[what] = str(error)
            _log.warning(
                "consumer %s: the store does not %s, and is asked again until it does: %s", name, what, error
            )

    def succeeded(self, what: str) -> None:
        """The store has done it."""
        self._troubles.pop(what, None)

    def move(self, position: int) -> None:
        """Everything up to there is done."""
        self.position = position
        self.head = max(self.head, position)
        for reaching in self._waiting:
            if reaching.position <= position:
                reaching.done.set()

    def reach(self, position: int) -> Reaching:
        """What is set when everything up to there is done; to be forgotten by whoever asked."""
        reaching = Reaching(position)
        self._waiting.add(reaching)
        if self.position >= position:
            reaching.done.set()
        return reaching

    def forget(self, reaching: Reaching) -> None:
        """Nobody waits for it any more."""
        self._waiting.discard(reaching)


class Reaching:
    """Somebody waits for a consumer to come to a position."""

    __slots__ = ("done", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.done = asyncio.Event()

    def give_up(self) -> None:
        """Wait no longer."""
        self.done.set()


class Errand:
    """Something that somebody has the holder of a name do: to replay what is parked, or to drop it."""

    def __init__(self, do: Callable[[Tenure], Awaitable[object]]) -> None:
        self.do = do
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """It will not be done."""
        if not self.done.done():
            self.done.set_exception(error)


class Tenure:
    """Made by `Consumer` for its work, once it holds the name.

    `read`, `more` and `pause` raise `ClosingError` when the consumer is to end, so that work saves what it has done
    and does not begin anything new; `save` goes on, for what was done must be kept.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits,
        checkpoint: Checkpoint,
        closing: asyncio.Event,
        progress: Progress,
        *,
        is_unclean: bool,
    ) -> None:
        self.store = store
        self.clock = clock
        self.limits = limits
        self.checkpoint = checkpoint
        self.kept = kept_in(checkpoint)
        self.progress = progress
        self.is_unclean = is_unclean
        """The holder before this one did not release the name: it may have died of an event."""
        self.errands: list[Errand] = []
        self.called = asyncio.Event()
        """Set when there is an errand."""
        self._closing = closing
        self._arrived_behind = -1
        self._in_vain = 0
        self._rate_since = clock.monotonic(), progress.handled

    # ---- reading

    async def read(self, *, after: int, where: LogFilter | None = None, limit: int = PAGE_SIZE) -> LogPage:
        """A page of the log, however long the store takes to be there again."""
        page = await self.persist(lambda: self.store.read_all(after=after, limit=limit, where=where))
        self.progress.head = max(self.progress.head, page.position)
        return page

    async def event_at(self, position: int) -> StoredEvent | None:
        """The event at a position; None if the log holds none there."""
        page = await self.persist(lambda: self.store.read_all(after=position - 1, limit=1))
        return page.events[0] if page.events and page.events[0].position == position else None

    async def arrival(self, *, after: int) -> None:
        """Return when there may be events behind a position."""
        if after == self._arrived_behind:
            # What has arrived was not to be read yet: a replica answers, and lags behind.
            self._in_vain += 1
            await self.pause(backoff(self.limits, self._in_vain))
        else:
            self._in_vain = 0
        await self.persist(lambda: self.store.wait(after=after))
        self._arrived_behind = after

    async def more(self, *, after: int, within: float | None = None) -> None:
        """Return when there may be events behind a position, or an errand, or when so many seconds have passed."""
        waits: list[Wait] = [lambda: self.arrival(after=after), self.called.wait]
        if within is not None:
            waits.append(lambda: sleep(self.clock, within))
        await self.first_of(*waits)

    async def first_of(self, *waits: Wait) -> set[int]:
        """Wait until one of them returns: which have, by number; raises what one of these raised."""
        self.check_closing()
        tasks = [asyncio.ensure_future(wait()) for wait in (*waits, self._closing.wait)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        self.check_closing()
        return {number for number, task in enumerate(tasks) if task in done}

    async def pause(self, seconds: float) -> None:
        """Let time pass, on the clock of the runtime."""
        await self.first_of(lambda: sleep(self.clock, seconds))

    def check_closing(self) -> None:
        """Raise `ClosingError` when the consumer is to end."""
        if self._closing.is_set():
            raise ClosingError

    async def persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of the store; what may pass is waited out."""
        tries = 0
        while True:
            self.check_closing()
            try:
                answer = await ask()
            except StoreUnavailableError as error:
                tries += 1
                self.progress.failed(self.checkpoint.name, "answer", error, tries)
                await self.pause(backoff(self.limits, tries))
            else:
                self.progress.succeeded("answer")
                return answer

    # ---- errands

    async def attend(self) -> None:
        """Do what was asked for meanwhile."""
        while self.errands:
            errand = self.errands.pop(0)
            try:
                answer = await errand.do(self)
            except (TakenOverError, ClosingError) as error:
                errand.fail(error)
                raise
            except Exception as error:
                errand.fail(error)
                # What it had changed and could not save is in memory only: it begins anew from what is stored.
                raise
            except BaseException:
                # The name is lost, or the time for closing is over.
                errand.fail(TakenOverError())
                raise
            else:
                if not errand.done.done():
                    errand.done.set_result(answer)
        self.called.clear()

    # ---- saving

    async def save(
        self,
        position: int,
        event_id: str,
        *,
        views: Sequence[ViewChange] = (),
        built: bool | None = None,
        change: Callable[[Any], Any] | None = None,
    ) -> None:
        """Save the place, and with it as one the views that changed, and what `change` does in the same transaction.

        Raises `TakenOverError` and `ChangeFailedError`: nothing was changed.
        """
        previous = self.checkpoint
        now = self.clock.monotonic()
        since, handled = self._rate_since
        rate = self.kept.rate
        if now - since >= 1:
            rate = (self.progress.handled - handled) / (now - since)
            self._rate_since = now, self.progress.handled
        kept = msgspec.structs.replace(
            self.kept,
            built=self.kept.built if built is None else built,
            parked=self.progress.parked,
            handled=self.progress.handled,
            rate=round(rate, 1),
            saved_at=self.clock.wall(),
        )
        saved = Checkpoint(
            name=previous.name,
            position=position,
            event_id=event_id,
            # Where the place stays, the epoch tells this save from those before it: one that was lost and lands late
            # must find that it is too late.
            epoch=previous.epoch + (position == previous.position),
            data=_encode(kept),
        )
        await put(self.store, self.clock, self.limits, self.progress, saved, previous, views, change)
        self.checkpoint, self.kept = saved, kept
        self.progress.move(position)

    def keep(self, **changes: Any) -> None:
        """Have something else kept from the next save on."""
        self.kept = msgspec.structs.replace(self.kept, **changes)


async def begin(
    store: Store,
    clock: Clock,
    limits: Limits,
    progress: Progress,
    name: str,
    holder: str,
    first: Callable[[], Awaitable[tuple[int, str]]],
) -> Checkpoint:
    """Raise the epoch of a consumer, after which no save of whoever ran it before can land.

    `first` says where a consumer begins that has no place yet.
    """
    while True:
        previous = await store.load_checkpoint(name)
        if previous is None:
            position, event_id = await first()
            taken = Checkpoint(name=name, position=position, event_id=event_id, epoch=1)
        else:
            taken = msgspec.structs.replace(previous, epoch=previous.epoch + 1)
        kept = msgspec.structs.replace(kept_in(taken), holder=holder)
        taken = msgspec.structs.replace(taken, data=_encode(kept))
        try:
            await put(store, clock, limits, progress, taken, previous, ())
        except TakenOverError:
            # It moved, perhaps by the last save of whoever ran it: from there, then.
            continue
        return taken


async def put(
    store: Store,
    clock: Clock,
    limits: Limits,
    progress: Progress,
    saved: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
    change: Callable[[Any], Any] | None = None,
) -> None:
    """Save a checkpoint until it is known whether it is. Raises `TakenOverError` if somebody else moved it."""
    tries, may_be_ours = 0, False
    while True:
        try:
            if change is None:
                done = await store.save_checkpoint(saved, previous=previous, views=views)
            else:
                within = cast("TransactionalStore", store)
                done = await within.transact(saved, previous=previous, views=views, change=change)
            if done or (may_be_ours and await store.load_checkpoint(saved.name) == saved):
                progress.succeeded("save")
                return
            raise TakenOverError
        except StoreUnavailableError as error:
            may_be_ours = may_be_ours or error.stored is not False
            tries += 1
            progress.failed(saved.name, "save", error, tries)
        await sleep(clock, backoff(limits, tries))


def backoff(limits: Limits, tries: int) -> float:
    """Seconds before the next try: doubling, with jitter."""
    seconds = min(limits.retry_most, limits.retry_first * 2.0 ** min(tries - 1, 30))
    return seconds * random.uniform(0.5, 1.0)


async def sleep(clock: Clock, seconds: float) -> None:
    """Let time pass, on that clock."""
    due = asyncio.Event()
    timer = clock.call_later(seconds, due.set)
    try:
        await due.wait()
    finally:
        timer.cancel()
