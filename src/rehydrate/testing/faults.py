"""A store in which things go wrong on purpose, to run a system on.

    store = FaultyStore(await open_store("memory://"), script := Script(), clock)
    script.add("submit", LoseAnswer())         # the next append is stored, and its answer is lost
    script.add("versions", Refuse(), Hang())   # the next question fails, the one after it hangs until release()

Whoever builds on a store has to live with each of these, for a network does all of them. The same script or the same
seed gives the same faults.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

import msgspec

from rehydrate.clock import Clock
from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    Capabilities,
    Checkpoint,
    ExpectedVersion,
    Head,
    LogFilter,
    LogPage,
    NewEvent,
    ReplayPage,
    Store,
    StoredSnapshot,
    StreamEnd,
    StreamHead,
    StreamPage,
    ViewChange,
    append_and_wait,
)

T = TypeVar("T")


class Refuse(msgspec.Struct, frozen=True):
    """The call never gets there, and the store can say so: `StoreUnavailableError(stored=False)`."""

    at_once: bool = False
    """An append is refused in the return value of `submit`, not through its waiter."""
    retryable: bool = True


class Lose(msgspec.Struct, frozen=True):
    """The call never gets there, and nobody knows: `StoreUnavailableError(stored=None)`."""

    at_once: bool = False


class LoseAnswer(msgspec.Struct, frozen=True):
    """The call is done and its answer is lost: `StoreUnavailableError(stored=None)`."""


class Delay(msgspec.Struct, frozen=True):
    """The call gets there after that many seconds."""

    seconds: float


class DelayAnswer(msgspec.Struct, frozen=True):
    """The call is done at once, and its answer, by then perhaps out of date, takes that many seconds."""

    seconds: float


class Hang(msgspec.Struct, frozen=True):
    """The call gets there when it is released."""


class HangAnswer(msgspec.Struct, frozen=True):
    """The call is done at once, and its answer comes when it is released."""


class Late(msgspec.Struct, frozen=True):
    """The outcome is unknown (`stored=None`) now, and the write lands later.

    It lands just before the write that is the `writes`-th next to the same stream (or of the same snapshot or
    checkpoint) is passed on, so that the first repeat of it meets it in the store; or at `land()`. A read is lost.
    """

    writes: int = 1


Fault: TypeAlias = Refuse | Lose | LoseAnswer | Delay | DelayAnswer | Hang | HangAnswer | Late
Plan: TypeAlias = Callable[[str], Fault | None]
"""What happens to the next call of the method of that name."""


METHODS = frozenset({
    "submit", "seal", "versions", "ends", "read_stream", "replay", "read_all", "head", "wait", "streams",
    "save_snapshot", "load_snapshot", "delete_snapshots",
    "load_checkpoint", "save_checkpoint", "list_checkpoints", "reset_checkpoint", "remove_checkpoint",
    "load_view", "load_views", "list_views",
})  # fmt: skip
"""What can fail. An `append` is a `submit`."""


class Script:
    """Faults in the order in which they were written down, for each method; then none."""

    def __init__(self) -> None:
        self._faults: defaultdict[str, deque[Fault | None]] = defaultdict(deque)

    def add(self, method: str, *faults: Fault | None) -> None:
        """The next calls of that method meet these; `None` lets one through."""
        if method not in METHODS:
            raise ValueError(
                f"a store has no method {method!r} that can fail (it has: {', '.join(sorted(METHODS))})"
            )
        self._faults[method].extend(faults)

    def __call__(self, method: str) -> Fault | None:
        faults = self._faults[method]
        return faults.popleft() if faults else None


ALL_THAT_PASS: tuple[Fault, ...] = (
    Refuse(),
    Refuse(at_once=True),
    Lose(),
    Lose(at_once=True),
    LoseAnswer(),
    Delay(0.0),
    Delay(0.3),
    DelayAnswer(0.0),
    DelayAnswer(0.3),
    Late(1),
    Late(2),
)
"""Every fault that ends by itself, if the clock goes on."""


class RandomFaults:
    """A fault now and then, drawn from a seed, in all methods or in those named."""

    def __init__(
        self,
        seed: int | random.Random,
        *,
        rate: float = 0.2,
        faults: Sequence[Fault] = ALL_THAT_PASS,
        methods: Collection[str] = (),
    ) -> None:
        self.rate = rate
        """May be set at any time; 0 ends it."""
        self._random = seed if isinstance(seed, random.Random) else random.Random(seed)
        self._faults = tuple(faults)
        self._methods = frozenset(methods) or METHODS

    def __call__(self, method: str) -> Fault | None:
        if method not in self._methods or self._random.random() >= self.rate:
            return None
        return self._random.choice(self._faults)


class FaultyStore:
    """Passes every call on to a store, and lets happen to it what the plan says. Closing it closes the store."""

    def __init__(self, store: Store, plan: Plan, clock: Clock) -> None:
        self.calls: Counter[str] = Counter()
        """How often each method was called; appends under `submit`."""
        self._store = store
        self._plan = plan
        self._clock = clock
        self._closed = False
        self._hanging: list[_Hanging] = []
        self._late: list[_LateWrite] = []

    # ---- what a test does to it

    @property
    def hanging(self) -> int:
        """How many calls hang now."""
        return len(self._hanging)

    @property
    def late(self) -> int:
        """How many writes have not landed yet."""
        return len(self._late)

    def release(self, method: str | None = None) -> None:
        """Let the calls of that method, or all, go on that hang."""
        going = [call for call in self._hanging if method in {None, call.method}]
        self._hanging = [call for call in self._hanging if call not in going]
        for call in going:
            call.go_on()

    async def land(self) -> None:
        """Let every late write land now."""
        late, self._late = self._late, []
        for write in late:
            await _unheard(write.call())

    # ---- appending

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    @property
    def url(self) -> str:
        return self._store.url

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        fault = self._next("submit")
        if self._closed:
            return StoreClosedError()
        for write in self._landing(("append", stream)):
            write.call()

        def send(waiter: AppendWaiter) -> Appended | StoreError | None:
            return self._store.submit(stream, events, expected_version, waiter, last_id, last_position)

        match fault:
            case None:
                return send(waiter)
            case Refuse(at_once=True) | Lose(at_once=True):
                return _unavailable(fault)
            case Refuse() | Lose():
                _soon(waiter, _unavailable(fault))
            case LoseAnswer():
                _send_and_tell(send, _AnswerLost(waiter, fault))
            case Delay() | Hang():
                self._hold("submit", fault, partial(_send_and_tell, send, waiter))
            case DelayAnswer() | HangAnswer():
                _send_and_tell(send, _AnswerHeld(waiter, partial(self._hold, "submit", fault)))
            case Late():
                self._late.append(_LateWrite(("append", stream), fault.writes, partial(_send_unheard, send)))
                _soon(waiter, _unavailable(fault))
        return None

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        return await append_and_wait(self, stream, events, expected_version)

    async def seal(self) -> None:
        await self._write("seal", ("seal", ""), self._store.seal)

    # ---- everything else

    async def versions(self, streams: Sequence[str]) -> list[int]:
        return await self._read("versions", lambda: self._store.versions(streams))

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        return await self._read("ends", lambda: self._store.ends(streams))

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        return await self._read(
            "read_stream",
            lambda: self._store.read_stream(stream, after=after, limit=limit, near=near, may_lag=may_lag),
        )

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:
        return await self._read("replay", lambda: self._store.replay(stream, after=after, near=near))

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await self._read(
            "read_all", lambda: self._store.read_all(after=after, limit=limit, where=where)
        )

    async def head(self) -> Head:
        return await self._read("head", self._store.head)

    async def wait(self, *, after: int) -> None:
        await self._read("wait", lambda: self._store.wait(after=after))

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        return await self._read(
            "streams", lambda: self._store.streams(prefix=prefix, after=after, limit=limit)
        )

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        save = partial(self._store.save_snapshot, snapshot, keep=keep)
        await self._write("save_snapshot", ("snapshot", snapshot.stream), save)

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        return await self._read("load_snapshot", lambda: self._store.load_snapshot(stream))

    async def delete_snapshots(self, stream: str) -> None:
        delete = partial(self._store.delete_snapshots, stream)
        await self._write("delete_snapshots", ("snapshot", stream), delete)

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        return await self._read("load_checkpoint", lambda: self._store.load_checkpoint(name))

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        save = partial(self._store.save_checkpoint, checkpoint, previous=previous, views=views)
        return await self._write("save_checkpoint", ("checkpoint", checkpoint.name), save)

    async def list_checkpoints(self) -> list[Checkpoint]:
        return await self._read("list_checkpoints", self._store.list_checkpoints)

    async def reset_checkpoint(self, name: str) -> None:
        reset = partial(self._store.reset_checkpoint, name)
        await self._write("reset_checkpoint", ("checkpoint", name), reset)

    async def remove_checkpoint(self, name: str) -> None:
        remove = partial(self._store.remove_checkpoint, name)
        await self._write("remove_checkpoint", ("checkpoint", name), remove)

    async def load_view(self, name: str, key: str) -> bytes | None:
        return await self._read("load_view", lambda: self._store.load_view(name, key))

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._read("load_views", lambda: self._store.load_views(name, keys))

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        return await self._read(
            "list_views", lambda: self._store.list_views(name, prefix=prefix, after=after, limit=limit)
        )

    async def close(self) -> None:
        """Close the store, then let go on what hangs: it meets a closed store. Late writes never land."""
        self._closed = True
        self._late.clear()
        await self._store.close()
        self.release()

    # ---- how a call meets its fault

    def _next(self, method: str) -> Fault | None:
        self.calls[method] += 1
        return self._plan(method)

    async def _read(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._meet(method, self._next(method), call)

    async def _write(self, method: str, key: _Key, call: Callable[[], Awaitable[T]]) -> T:
        fault = self._next(method)
        for write in self._landing(key):
            await _unheard(write.call())
        if isinstance(fault, Late):
            self._late.append(_LateWrite(key, fault.writes, call))
        return await self._meet(method, fault, call)

    async def _meet(self, method: str, fault: Fault | None, call: Callable[[], Awaitable[T]]) -> T:
        if isinstance(fault, Refuse | Lose | Late):
            # A call that fails lets others run first, too, as one that went out to a network does.
            await asyncio.sleep(0)
            raise _unavailable(fault)
        if isinstance(fault, Delay | Hang):
            await self._held(method, fault)
        result = await call()
        if isinstance(fault, LoseAnswer):
            raise _unavailable(fault)
        if isinstance(fault, DelayAnswer | HangAnswer):
            await self._held(method, fault)
        return result

    async def _held(self, method: str, fault: _Holding) -> None:
        going: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def go_on() -> None:
            if not going.done():
                going.set_result(None)

        self._hold(method, fault, go_on)
        try:
            await going
        finally:
            self._hanging = [call for call in self._hanging if call.go_on is not go_on]

    def _hold(self, method: str, fault: _Holding, go_on: Callable[[], None]) -> None:
        if isinstance(fault, Hang | HangAnswer):
            self._hanging.append(_Hanging(method, go_on))
        else:
            self._clock.call_later(fault.seconds, go_on)

    def _landing(self, key: _Key) -> list[_LateWrite]:
        """The late writes that the next write of that key finds done."""
        for write in self._late:
            write.waits_for -= write.key == key
        due = [write for write in self._late if write.waits_for <= 0]
        self._late = [write for write in self._late if write.waits_for > 0]
        return due


_Holding: TypeAlias = Delay | DelayAnswer | Hang | HangAnswer
_Key: TypeAlias = tuple[str, str]
_Send: TypeAlias = Callable[[AppendWaiter], Appended | StoreError | None]


class _Hanging(msgspec.Struct, frozen=True):
    method: str
    go_on: Callable[[], None]


class _LateWrite(msgspec.Struct):
    key: _Key
    waits_for: int
    call: Callable[[], Awaitable[object]]


class _Nobody:
    """Stands where the caller was that has gone."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def append_done(self, outcome: Appended | StoreError) -> None:  # noqa: ARG002
        self.answered.set_result(None)


class _AnswerLost:
    def __init__(self, waiter: AppendWaiter, fault: LoseAnswer) -> None:
        self._waiter = waiter
        self._fault = fault

    def append_done(self, outcome: Appended | StoreError) -> None:  # noqa: ARG002
        self._waiter.append_done(_unavailable(self._fault))


class _AnswerHeld:
    def __init__(self, waiter: AppendWaiter, hold: Callable[[Callable[[], None]], None]) -> None:
        self._waiter = waiter
        self._hold = hold

    def append_done(self, outcome: Appended | StoreError) -> None:
        self._hold(lambda: self._waiter.append_done(outcome))


def _send_and_tell(send: _Send, waiter: AppendWaiter) -> None:
    """Pass an append on; what the store answers at once reaches the waiter from the event loop, too."""
    outcome = send(waiter)
    if outcome is not None:
        _soon(waiter, outcome)


def _send_unheard(send: _Send) -> asyncio.Future[None]:
    waiter = _Nobody()
    _send_and_tell(send, waiter)
    return waiter.answered


async def _unheard(call: Awaitable[object]) -> None:
    """Whatever becomes of it, the caller has gone."""
    try:
        await call
    except (StoreError, ValueError):
        pass


def _soon(waiter: AppendWaiter, outcome: Appended | StoreError) -> None:
    asyncio.get_running_loop().call_soon(waiter.append_done, outcome)


def _unavailable(fault: Refuse | Lose | LoseAnswer | Late) -> StoreUnavailableError:
    if isinstance(fault, Refuse):
        return StoreUnavailableError("refused, as planned", stored=False, retryable=fault.retryable)
    return StoreUnavailableError(f"{type(fault).__name__}, as planned", stored=None)
