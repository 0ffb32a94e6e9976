"""What every consumer is: it competes for its name, works while it holds it, and is never silently gone.

What it does with the events is its work: `projector`, `subscriber`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, TypeVar

from rehydrate.clock import Clock
from rehydrate.errors import (
    ConfigurationError,
    CorruptStoreError,
    RehydrateError,
    StoreClosedError,
    StoreUnavailableError,
)
from rehydrate.runtime.claim import Claim, ClaimRecord
from rehydrate.runtime.decision import describe
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.tenure import (
    ClosingError,
    Errand,
    Progress,
    StoppedError,
    TakenOverError,
    Tenure,
    backoff,
    begin,
    sleep,
)
from rehydrate.store.port import Checkpoint, Store
from rehydrate.telemetry import ConsumerStatistics

_log = logging.getLogger(__name__)

T = TypeVar("T")

_BEATS: Final = 4
"""How often a holder shows that it is alive in the time after which it is taken for dead."""
_LOOKS: Final = 20
"""How often others look in that time: an orderly hand-over waits for the next look."""
_RESTART_MOST: Final = 60.0
"""Seconds of the longest pause before a consumer that failed by a bug is started again."""

State = Literal["starting", "waiting", "running", "paused", "stopped", "failing", "closed"]


class Work(Protocol):
    """What a consumer does while it holds its name."""

    @property
    def name(self) -> str:
        """Of its checkpoint."""
        ...

    @property
    def kind(self) -> str:
        """For people: "projection", "subscription"."""
        ...

    async def first(self, store: Store) -> tuple[int, str]:
        """Where it begins that has no place yet: a position, and the id of the event there."""
        ...

    async def enter(self, tenure: Tenure) -> None:
        """Get ready: what earlier holders left is in the store, and what this one knew of an earlier tenure is void."""
        ...

    async def run(self, tenure: Tenure) -> None:
        """Work from the checkpoint on, attending to errands in between, until a call of the tenure raises.

        What it raises: `StoppedError` to stand still, and what the tenure raised. Anything else is a bug.
        """
        ...

    async def replay(self, tenure: Tenure, key: str | None) -> int:
        """Handle again what is parked, of one key or of all; how many events that were."""
        ...

    async def drop(self, tenure: Tenure, key: str | None) -> int:
        """Forget what is parked, of one key or of all; how many events that were."""
        ...


class Consumer:
    """One consumer in one process."""

    def __init__(self, work: Work, store: Store, *, clock: Clock, limits: Limits, holder: str) -> None:
        self.work = work
        self.state: State = "starting"
        self.reason = ""
        """Why it is stopped or fails."""
        self.progress = Progress()
        self._store = store
        self._clock = clock
        self._limits = limits
        self._holder = holder
        self._claim = ClaimRecord(store, work.name, holder, clock, limits.takeover_after)
        self._closing = asyncio.Event()
        self._tenure: Tenure | None = None
        self._beginning = asyncio.Lock()
        """Held by whoever begins to work here until it runs, and by an errand until it is done: they share the work."""
        self._is_beginning = False
        """Whether it is held by the one that is to run."""
        self._is_fresh = True
        """Has not looked at its claim yet: a start is a new try for one that stopped."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to compete for the name."""
        self._task = asyncio.create_task(
            self._supervise(), name=f"rehydrate {self.work.kind} {self.work.name}"
        )
        self._task.add_done_callback(self._ended)

    @property
    def is_started(self) -> bool:
        return self._task is not None

    @property
    def is_built(self) -> bool:
        """Whether it runs here, and has been at the end of the log."""
        return self._tenure is not None and self._tenure.kept.built

    async def close(self) -> None:
        """Finish what is in hand, save it, and hand the name over. Closing twice is fine."""
        self._closing.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    def give_up(self) -> None:
        """End it where it stands: the time for closing is over."""
        if self._task is not None:
            self._task.cancel()

    def statistics(self) -> ConsumerStatistics:
        progress = self.progress
        trouble = progress.trouble if self.state == "running" else ""
        return ConsumerStatistics(
            name=self.work.name,
            kind=self.work.kind,
            state="failing" if trouble else self.state,
            reason=self.reason or trouble,
            position=progress.position,
            lag=max(0, progress.head - progress.position),
            parked=progress.parked,
            handled=progress.handled,
        )

    # ---- errands

    async def do(self, errand: Callable[[Tenure], Awaitable[T]]) -> T:
        """Have it done by the holder of the name, which this process becomes for that, if it is not.

        Raises `ConfigurationError` for what stops the consumer, and `StoreUnavailableError`.
        """
        try:
            return await self._have_done(errand)
        except StoppedError as stopped:
            raise ConfigurationError(f"{self.work.kind} {self.work.name!r}: {stopped}") from stopped.__cause__

    async def _have_done(self, errand: Callable[[Tenure], Awaitable[T]]) -> T:
        while True:
            if self._tenure is not None:
                asked = Errand(errand)
                self._tenure.errands.append(asked)
                self._tenure.called.set()
                try:
                    done: T = await asked.done
                except (TakenOverError, ClosingError):
                    pass
                else:
                    return done
            async with self._beginning:
                if self._tenure is None:
                    return await self._do_alone(errand)

    async def _do_alone(self, errand: Callable[[Tenure], Awaitable[T]]) -> T:
        claim = ClaimRecord(
            self._store,
            self.work.name,
            f"{self._holder} on an errand",
            self._clock,
            self._limits.takeover_after,
        )
        progress = Progress()
        progress.held_until = self._clock.monotonic() + self._limits.takeover_after
        before = await claim.put_whatever_is_there("held")
        # An errand may take longer than somebody may be silent.
        beating = asyncio.create_task(self._beat(claim, progress))
        try:
            tenure = await self._begin(claim.holder, progress, is_unclean=False)
            await self.work.enter(tenure)
            return await errand(tenure)
        except (TakenOverError, ClosingError):
            raise StoreUnavailableError(
                f"{self.work.kind} {self.work.name!r} was taken over by another process meanwhile; try again"
            ) from None
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            # Whoever held it goes on with it, from where this left it.
            standing = before.standing if before.standing in {"paused", "stopped"} else "released"
            await claim.put_whatever_is_there(
                standing, before.reason, unless=lambda now: now.holder != claim.holder
            )

    # ---- its life

    async def _supervise(self) -> None:
        failures = 0
        while True:
            try:
                await self._hold()
                failures = 0
            except ClosingError:
                break
            except StoreClosedError:
                break
            except TakenOverError:
                _log.info("%s %s: another process has taken over", self.work.kind, self.work.name)
            except StoppedError as stopped:
                self._say_stopped(stopped)
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be the end of the consumer
                failures += 1
                self._say_failing(error, failures)
                if not await self._pause(self._until_restart(failures)):
                    break

    def _ended(self, _: asyncio.Task[None]) -> None:
        self.state = "closed"

    async def _hold(self) -> None:
        """Get the name, work while it is held, and release it."""
        is_unclean = await self._contend()
        beating = asyncio.create_task(self._beat(self._claim, self.progress))
        working = asyncio.create_task(self._work(is_unclean=is_unclean))
        try:
            await asyncio.wait({beating, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Work that has ended, ended for its own reason; else it is the name that was lost.
            ended = working if working.done() else beating
            for task in (beating, working):
                task.cancel()
            await asyncio.gather(beating, working, return_exceptions=True)
            self._has_begun()
        try:
            if ended.cancelled():
                raise RuntimeError("its work was cancelled")
            ended.result()
        except TakenOverError:
            raise
        except StoppedError as stopped:
            await self._release("stopped", str(stopped))
            raise
        except BaseException:
            await self._release("released")
            raise

    async def _contend(self) -> bool:
        """Return when the claim is ours: whether the holder before did not release it."""
        seen, since = -1, 0.0
        while True:
            await self._beginning.acquire()
            self._is_beginning = True
            is_ours = False
            try:
                claim = await self._claim.look()
                now = self._clock.monotonic()
                if claim.standing == "held" and claim.holder != self._holder:
                    if self._claim.beat != seen:
                        seen, since = self._claim.beat, now
                    may_take = now - since >= self._limits.takeover_after
                else:
                    may_take = claim.standing != "paused" and (claim.standing != "stopped" or self._is_fresh)
                self._is_fresh = False
                is_ours = may_take and await self._claim.put("held")
            finally:
                if not is_ours:
                    self._has_begun()
            if is_ours:
                self.progress.held_until = now + self._limits.takeover_after
                return claim.standing == "held" and claim.holder != self._holder
            self._show(claim)
            if not may_take and not await self._pause(self._limits.takeover_after / _LOOKS):
                raise ClosingError

    def _show(self, claim: Claim) -> None:
        if claim.standing == "paused" or claim.standing == "stopped":
            self.state = claim.standing
        else:
            self.state = "waiting"
        self.reason = claim.reason

    def _has_begun(self) -> None:
        """It runs, or will not: an errand need not wait any longer."""
        if self._is_beginning:
            self._is_beginning = False
            self._beginning.release()

    async def _beat(self, claim: ClaimRecord, progress: Progress) -> None:
        """Show that this process is alive, until the name is another's."""
        while True:
            await sleep(self._clock, self._limits.takeover_after / _BEATS)
            now = self._clock.monotonic()
            try:
                if not await claim.put("held"):
                    raise TakenOverError
                progress.held_until = now + self._limits.takeover_after
            except StoreUnavailableError:
                # Whoever cannot beat cannot be overtaken either: nobody else can write the claim now.
                continue

    async def _work(self, *, is_unclean: bool) -> None:
        try:
            tenure = await self._begin(self._holder, self.progress, is_unclean=is_unclean)
            await self._check_log(tenure)
            await self.work.enter(tenure)
            self._tenure = tenure
            self._has_begun()
            self.state, self.reason = "running", ""
            await self.work.run(tenure)
        except (CorruptStoreError, ConfigurationError) as error:
            raise StoppedError(str(error)) from error
        finally:
            ended, self._tenure = self._tenure, None
            for errand in () if ended is None else ended.errands:
                errand.fail(TakenOverError())

    async def _begin(self, holder: str, progress: Progress, *, is_unclean: bool) -> Tenure:
        checkpoint = await begin(
            self._store,
            self._clock,
            self._limits,
            progress,
            self.work.name,
            holder,
            lambda: self.work.first(self._store),
        )
        tenure = Tenure(
            self._store, self._clock, self._limits, checkpoint, self._closing, progress, is_unclean=is_unclean
        )
        progress.handled, progress.parked = tenure.kept.handled, tenure.kept.parked
        progress.head = (await self._store.head()).position
        progress.position = 0
        progress.move(checkpoint.position)
        return tenure

    async def _check_log(self, tenure: Tenure) -> None:
        """Raise `CorruptStoreError` if the log is not the one that the checkpoint is of."""
        checkpoint = tenure.checkpoint
        while checkpoint.position:
            event = await tenure.event_at(checkpoint.position)
            if event is not None and event.id == checkpoint.event_id:
                return
            if event is not None or (await self._store.head()).position < checkpoint.position:
                raise _another_log(self.work, checkpoint)
            # It is the reader who is behind: a replica.
            await tenure.pause(backoff(self._limits, 3))

    async def _release(self, standing: Literal["released", "stopped"], reason: str = "") -> None:
        try:
            await self._claim.put_whatever_is_there(
                standing, reason, unless=lambda now: now.standing != "held" or now.holder != self._holder
            )
        except RehydrateError as error:
            _log.warning(
                "%s %s: its name could not be released, so others wait %g s for it: %s",
                self.work.kind,
                self.work.name,
                self._limits.takeover_after,
                error,
            )

    async def _pause(self, seconds: float) -> bool:
        """Let time pass; False when the consumer is to end."""
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._closing.wait()),
            asyncio.ensure_future(sleep(self._clock, seconds)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return not self._closing.is_set()

    def _until_restart(self, failures: int) -> float:
        return min(_RESTART_MOST, self._limits.hold_first * 2.0 ** min(failures - 1, 10))

    def _say_stopped(self, stopped: StoppedError) -> None:
        self.state, self.reason = "stopped", str(stopped)
        _log.error(
            "%s %s is stopped at position %s: %s; mend that and resume it",
            self.work.kind,
            self.work.name,
            self.progress.position,
            stopped,
            exc_info=stopped.__cause__,
        )

    def _say_failing(self, error: Exception, failures: int) -> None:
        self.state, self.reason = "failing", describe(error)
        if isinstance(error, StoreUnavailableError):
            _log.warning("%s %s: the store cannot work now: %s", self.work.kind, self.work.name, error)
        else:
            _log.error(
                "%s %s failed, for the %s. time in a row, and is started again",
                self.work.kind,
                self.work.name,
                failures,
                exc_info=error,
            )


def _another_log(work: Work, checkpoint: Checkpoint) -> CorruptStoreError:
    return CorruptStoreError(
        f"{work.kind} {work.name!r} stands at event {checkpoint.event_id!r} at position {checkpoint.position:,}, which "
        "the log does not hold there: was the store restored from an older copy? Reset the consumer"
    )
