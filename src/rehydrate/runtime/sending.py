"""What sends the commands of a process manager, each until it has an answer, and tells the instance of some.

Sent twice is stored once: the id of a command is that of the event that asks for it, and with `caused_at` its target
recognises it however late it is repeated. A command that was refused, or accepted without events, leaves no trace at the
target. So that it is not sent again and then changes something, its instance is told before anything else is sent to
that target; a command that may have been sent before is looked for in the stream of its instance first; and nothing is
sent that could be decided after another process may have begun to send. Where the target has no time to
search its stream for a command before that, the sender does, and the next try begins where the search before has ended.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakValueDictionary

from rehydrate.codec.process import DUE, SENT, Confirm, Due, InstanceCodec, Refuse, SendAgain, Sent
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import Park, Retry
from rehydrate.domain.process import Undeliverable
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.subscription import Subscription
from rehydrate.errors import (
    ActorCrashedError,
    AppendTooLargeError,
    CommandTimeoutError,
    DuplicateCommandError,
    StoreUnavailableError,
)
from rehydrate.runtime.answered import Answered
from rehydrate.runtime.decision import describe
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.parking import Parked
from rehydrate.runtime.process import Process, refusal
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.searching import Search
from rehydrate.runtime.subscriber import WINDOW, Subscriber
from rehydrate.runtime.tenure import ClosingError, Tenure, backoff
from rehydrate.store.port import LogFilter, StoredEvent

WORKERS: Final = 64
"""How many targets are sent to at the same time."""
_AGAIN: Final = 16
"""How many targets that hold back commands are tried again at the same time."""
_POLICY: Final = Retry(times=4, first=0.05, most=1.0, then=Park())
_AGAIN_FIRST: Final = 8
"""How many tries the first pause is as long as, before what is held back is sent again."""

_IN_HAND: Final = 2 * WINDOW
"""How many commands may have been sent behind the place that was saved last."""


class Sender(Subscriber):
    """A subscription to what the instances ask for, whose handler sends it."""

    kind = "process manager"

    def __init__(self, process: Process, runtime: Runtime) -> None:
        subscription = Subscription(
            name=process.name,
            handler=self._send,
            aggregates=[process.instances],
            partition_by=_target,
            workers=WORKERS,
            on_error=_POLICY,
        )
        super().__init__(subscription, Envelopes({process.name: InstanceCodec()}))
        self.name = f"{process.name}:sends"
        self._where = LogFilter(aggregates=frozenset({process.name}), types=frozenset({SENT, DUE}))
        self._process = process
        self._runtime = runtime
        self._tenure: Tenure | None = None
        self._may_be_tried = 0
        """What stands up to here may have been sent by an earlier holder."""
        self._unbarred = 0
        """How many of these an earlier holder may have had in hand, at most."""
        self._newest = 0
        """The last position that is known to be in the log."""
        self._verdicts: dict[str, tuple[Refuse | Confirm, int]] = {}
        """Answers that the instance is told of, each with the position up to which nobody had told it."""
        self._answered = Answered()
        self._searches: dict[str, Search] = {}
        """Of commands that their targets could not search for in time."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Held while what is held back of a target is tried again: by itself, or because somebody has asked for it."""
        self._is_over = False
        self._woken = asyncio.Event()
        """Set when something is held back, or this is to end."""
        self._rested = asyncio.Event()
        """Set when it is time to send again, or this is to end."""

    async def enter(self, tenure: Tenure) -> None:
        await super().enter(tenure)
        self._tenure = tenure
        self._may_be_tried = self._newest = (await tenure.store.head()).position
        self._unbarred = _IN_HAND + len(self._parked)
        self._verdicts.clear()
        self._answered = Answered()
        self._searches.clear()
        self._is_over = False
        self._woken = asyncio.Event()
        self._rested = asyncio.Event()

    async def run(self, tenure: Tenure) -> None:
        again = asyncio.ensure_future(self._send_again(tenure))
        try:
            await super().run(tenure)
        finally:
            # What it has in hand must have its answer before another process may send.
            self._is_over = True
            self._woken.set()
            self._rested.set()
            await asyncio.gather(again, return_exceptions=True)

    async def _carefully(self, tenure: Tenure) -> None:
        """Nothing to fear: no code of the user is called here that an event could end the process in."""

    # ---- one command

    async def _send(self, envelope: EventEnvelope[Any]) -> None:
        asked: Sent | Due = envelope.event
        if isinstance(asked, Sent) and asked.due is not None:
            return
        told = self._verdicts.get(envelope.id)
        if told is None:
            # From before the search below on: what somebody tells behind it, the instance finds.
            untold = max(self._newest, envelope.position)
            if envelope.position <= self._may_be_tried:
                await self._bar_others(envelope)
                if await self._answered.holds(self._held(), envelope):
                    return
            verdict = await self._verdict(envelope, asked)
            self._searches.pop(envelope.id, None)
            if verdict is None:
                return
            told = self._verdicts[envelope.id] = verdict, untold
        await self._tell(envelope, *told)
        self._verdicts.pop(envelope.id, None)

    async def _verdict(self, envelope: EventEnvelope[Any], asked: Sent | Due) -> Refuse | Confirm | None:
        """Send the command: None once it is stored, or what its instance has to know. Raises what a later try may mend."""
        command = self._process.command(asked.aggregate, asked.type, bytes(asked.command))
        target = self._process.codecs.targets[asked.aggregate].aggregate
        search = self._searches.get(envelope.id)
        if search is not None and await search.finds(self._held()):
            return None
        try:
            result = await self._runtime.dispatch(
                target,
                asked.id,
                command,
                command_id=envelope.id,
                caused_at=envelope.position if search is None else search.position,
                timeout=self._left(),
                correlation_id=envelope.metadata.correlation_id,
                causation_id=envelope.id,
            )
        except CommandTimeoutError:
            if search is None:
                stream = target.stream(asked.id)
                self._searches[envelope.id] = Search(stream, envelope.id, caused_at=envelope.position)
            raise
        except DuplicateCommandError:
            # It was stored, by code that writes the same command in other bytes.
            return None
        except Rejection as no:
            return self._refuse(envelope, asked, no)
        except (ActorCrashedError, AppendTooLargeError) as error:
            return self._refuse(envelope, asked, Undeliverable(error=type(error).__name__, reason=str(error)))
        self._newest = max(self._newest, result.position)
        return None if result.events else Confirm(envelope.id)

    def _refuse(self, envelope: EventEnvelope[Any], asked: Sent | Due, no: Rejection) -> Refuse:
        return refusal(envelope.id, asked, no, self._held().clock.wall())

    async def _tell(self, envelope: EventEnvelope[Any], verdict: Refuse | Confirm, untold: int) -> None:
        """Tell the instance, which looks for it behind the position `untold`: not in all that it has stored since it asked."""
        try:
            result = await self._runtime.dispatch(
                self._process.instances,
                envelope.aggregate_id,
                verdict,
                command_id=f"answer {envelope.id}",
                caused_at=untold,
                timeout=self._left(),
                correlation_id=envelope.metadata.correlation_id,
                causation_id=envelope.id,
            )
        except DuplicateCommandError:
            # It was told before, at another time; the first answer is the one that counts.
            return
        self._newest = max(self._newest, result.position)

    async def _bar_others(self, envelope: EventEnvelope[Any]) -> None:
        """See to it that an append of a holder that did not end in order, with an answer, does not land any more.

        Such a holder decided it on a version that is no more after this, and by now he may decide nothing anew.
        """
        if not self._held().is_unclean or self._unbarred == 0:
            return
        self._unbarred -= 1
        await self._runtime.dispatch(
            self._process.instances,
            envelope.aggregate_id,
            SendAgain(envelope.id),
            timeout=self._left(),
            correlation_id=envelope.metadata.correlation_id,
            causation_id=envelope.id,
        )

    def _held(self) -> Tenure:
        assert self._tenure is not None
        return self._tenure

    def _left(self) -> float:
        """Seconds in which a command has to be decided: another process may send when they are over."""
        tenure = self._held()
        left = tenure.progress.held_until - tenure.clock.monotonic()
        if left <= 0:
            raise StoreUnavailableError(
                f"{self.name}: the store has not confirmed lately that it is run here"
            )
        return min(left, tenure.limits.timeout)

    # ---- what is held back

    def _park(self, tenure: Tenure, event: StoredEvent, key: str, reason: str) -> None:
        super()._park(tenure, event, key, reason)
        self._woken.set()

    async def _send_again(self, tenure: Tenure) -> None:
        """Send what is held back, beside everything else, after pauses that grow while nothing gets through."""
        tries = _AGAIN_FIRST
        permits = asyncio.Semaphore(_AGAIN)
        while not self._is_over:
            if not self._parked.keys():
                self._woken.clear()
                await self._woken.wait()
                continue
            self._rested.clear()
            timer = tenure.clock.call_later(backoff(tenure.limits, tries), self._rested.set)
            await self._rested.wait()
            timer.cancel()
            sent = await asyncio.gather(
                *[self._send_held_back(tenure, key, permits) for key in self._parked.keys()]  # noqa: SIM118
            )
            tries = _AGAIN_FIRST if sum(sent) else tries + 1
            # The loop of the subscription saves what has changed.
            tenure.called.set()

    async def _send_held_back(self, tenure: Tenure, key: str, permits: asyncio.Semaphore) -> int:
        done = 0
        async with permits:
            while not self._is_over and (parked := self._parked.of(key)):
                if not await self._replay_one(tenure, parked[0]):
                    break
                done += 1
        return done

    async def _replay_one(self, tenure: Tenure, parked: Parked) -> bool:
        turn = self._turns.setdefault(parked.key, asyncio.Lock())
        # One try at a time: of two, one might be refused, or change nothing, and the other be decided behind something else.
        async with turn:
            # Somebody else may have sent or dropped it meanwhile.
            return not self._is_parked_still(parked) or await self._try_again(tenure, parked)

    async def _try_again(self, tenure: Tenure, parked: Parked) -> bool:
        event = await tenure.event_at(parked.position)
        try:
            if event is None or event.id != parked.event_id:
                raise LookupError(f"the log does not hold event {parked.event_id!r} at its position")
            await self._send(self._envelopes.of(event))
        except ClosingError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told where somebody looks
            if self._is_parked_still(parked):
                self._parked.failed_again(parked, describe(error))
            return False
        if self._is_parked_still(parked):
            self._parked.release(parked)
        return True

    async def drop(self, tenure: Tenure, key: str | None) -> int:
        done = 0
        for one in [key] if key is not None else self._parked.keys():
            # What is dropped must have no effect any more behind what follows it: the try that is under way comes first.
            async with self._turns.setdefault(one, asyncio.Lock()):
                for parked in self._parked.of(one):
                    self._parked.release(parked)
                    done += 1
        await self._save_beside(tenure)
        return done

    def _is_parked_still(self, parked: Parked) -> bool:
        """Whether nobody has dropped it meanwhile."""
        return self._parked.holds(parked.key, parked.position)


def _target(envelope: EventEnvelope[Any]) -> str:
    asked: Sent | Due = envelope.event
    return f"{asked.aggregate}-{asked.id}"
