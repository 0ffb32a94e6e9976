"""The two kinds of a run: one whose ids are fresh, and a named one, which the same call goes on with.

The pipeline asks which lines are due and under which ids they are sent, tells of each line that stored nothing before
it sends the next one of the same aggregate, and of each line that was answered, in the order of the input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from rehydrate.cli.run.commands import Order
from rehydrate.cli.run.entries import Entry, Outcome
from rehydrate.cli.run.lines import Line
from rehydrate.cli.run.progress import AHEAD, MAX_FAILED, InputChangedError, RunProgress
from rehydrate.cli.run.sending import PAUSES
from rehydrate.errors import RehydrateError, StoreUnavailableError

SAVE_LINES: Final = AHEAD // 4
"""Answered lines after which progress is saved, so that reading never waits for it."""
SAVE_SECONDS: Final = 1.0
"""How long an answered line may be without being saved: a `kill -9` makes no more than this to be sent again."""


class Identity(NamedTuple):
    """Under which id a command is sent, and before which position it cannot have been."""

    command_id: str | None
    caused_at: int | None


class Run(Protocol):
    """What the pipeline needs of a run."""

    def due(self, lines: Sequence[Line]) -> Sequence[Line]:
        """Those of the next lines of the input that are to be run, and with them any held back before."""
        ...

    def ended(self, last: int) -> Sequence[Line]:
        """The input has ended with that line: what was held back."""
        ...

    def earlier_answer(self, line: int) -> bytes | None:
        """The answer to a line that stored nothing in an earlier call, and is not sent again."""
        ...

    def identity(self, line: int, order: Order) -> Identity: ...

    async def room_for(self, line: int) -> None:
        """Return when this line may be sent."""
        ...

    def settle(self, line: int, answer: bytes) -> asyncio.Future[None] | None:
        """A line stored nothing. The next one of its aggregate waits for the future, if there is one.

        It is cancelled if that cannot be saved: then it is as if the line had not been sent.
        """
        ...

    def answered(self, entry: Entry) -> None:
        """The answer to a line was written, and those to all lines before it.

        Raises a `RehydrateError` if the run is not to go on.
        """
        ...

    async def keep(self, give_up: Callable[[RehydrateError], None]) -> None:
        """Save progress now and then, and once more when the run is closed; `give_up` hears that it cannot be saved."""
        ...

    def close(self) -> None:
        """Nothing more will be told."""
        ...


class FreshRun:
    """Sends every line, under an id that nobody has used."""

    def due(self, lines: Sequence[Line]) -> Sequence[Line]:
        return lines

    def ended(self, last: int) -> Sequence[Line]:  # noqa: ARG002
        return ()

    def earlier_answer(self, line: int) -> bytes | None:  # noqa: ARG002
        return None

    def identity(self, line: int, order: Order) -> Identity:  # noqa: ARG002
        return Identity(order.command_id, None)

    async def room_for(self, line: int) -> None:
        pass

    def settle(self, line: int, answer: bytes) -> asyncio.Future[None] | None:  # noqa: ARG002
        return None

    def answered(self, entry: Entry) -> None:
        pass

    async def keep(self, give_up: Callable[[RehydrateError], None]) -> None:
        pass

    def close(self) -> None:
        pass


class NamedRun:
    """Keeps its progress in the store, and goes on from there."""

    def __init__(self, progress: RunProgress, *, strict: bool) -> None:
        self._progress = progress
        self._strict = strict
        self._loop = asyncio.get_running_loop()
        self._resumed_at = progress.first
        self._failed_before = frozenset(progress.failed)
        self._expected_digest = progress.digest
        self._seen_digest = 0
        self._is_verified = progress.first == 1
        self._held: list[Line] = []
        self._has_gap = False
        self._unsaved: dict[int, bytes] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._in_store = set(progress.answers)
        self._obsolete: list[int] = []
        self._is_dirty = False
        self._is_lost = False
        """Whether progress could not be saved: nothing more is sent, and the next call finds out what was."""
        self._is_closed = False
        self._wake = asyncio.Event()
        self._saved = asyncio.Event()

    # ---- what is due

    def due(self, lines: Sequence[Line]) -> Sequence[Line]:
        if self._is_verified:
            return lines
        due: list[Line] = []
        for line in lines:
            if line.number >= self._resumed_at:
                due += self._verified()
                due.append(line)
            elif line.number in self._failed_before:
                self._held.append(line)
            else:
                self._seen_digest ^= line.digest
        return due

    def ended(self, last: int) -> Sequence[Line]:
        if last < self._resumed_at - 1:
            raise InputChangedError(
                f"run {self._progress.name!r} has finished {self._resumed_at - 1:,} lines, and this input has only "
                f"{last:,}: give it the input that it was begun with, or use another name"
            )
        return self._verified()

    def _verified(self) -> list[Line]:
        """The lines held back, once all lines that were finished are known to be unchanged."""
        if not self._is_verified and self._seen_digest != self._expected_digest:
            raise InputChangedError(
                f"run {self._progress.name!r} has finished the lines before line {self._resumed_at:,}, and one of "
                "them has changed since: give it the input that it was begun with, or use another name"
            )
        self._is_verified = True
        held, self._held = self._held, []
        return held

    def earlier_answer(self, line: int) -> bytes | None:
        return self._progress.answers.get(line)

    def identity(self, line: int, order: Order) -> Identity:
        if order.command_id is None:
            return Identity(self._progress.command_id(line), self._progress.caused_at)
        # An id from the input may be older than this run: it is looked for in the last 1,024 events, as always. A
        # line that an earlier call may have sent is looked for in the whole stream.
        was_maybe_sent = not self._progress.is_new and line < self._resumed_at + AHEAD
        return Identity(order.command_id, 0 if was_maybe_sent else None)

    async def room_for(self, line: int) -> None:
        while line >= self._progress.saved_first + AHEAD and not self._is_lost:
            self._saved.clear()
            await self._saved.wait()

    # ---- what is finished

    def settle(self, line: int, answer: bytes) -> asyncio.Future[None]:
        saved = self._loop.create_future()
        if self._is_lost:
            saved.cancel()
            return saved
        self._unsaved[line] = answer
        self._waiting.append(saved)
        self._wake.set()
        return saved

    def answered(self, entry: Entry) -> None:
        progress = self._progress
        if entry.outcome in (Outcome.UNSENT, Outcome.UNFINISHED) or (
            self._strict and entry.outcome is Outcome.FAILED
        ):
            self._has_gap = True
        if self._has_gap:
            return
        if entry.outcome is Outcome.FAILED:
            progress.failed.add(entry.line)
            if len(progress.failed) > MAX_FAILED:
                raise _too_many_failed(progress.name)
        else:
            progress.failed.discard(entry.line)
            progress.digest ^= entry.digest
            if entry.line in self._in_store:
                self._obsolete.append(entry.line)
        progress.first = max(progress.first, entry.line + 1)
        self._is_dirty = True
        if progress.first >= progress.saved_first + SAVE_LINES:
            self._wake.set()

    async def keep(self, give_up: Callable[[RehydrateError], None]) -> None:
        while not self._is_closed:
            try:
                async with asyncio.timeout(SAVE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._save(give_up)

    def close(self) -> None:
        self._is_closed = True
        self._wake.set()

    async def _save(self, give_up: Callable[[RehydrateError], None]) -> None:
        if self._is_lost or not (self._is_dirty or self._unsaved):
            return
        answers, self._unsaved = self._unsaved, {}
        waiting, self._waiting = self._waiting, []
        obsolete, self._obsolete = self._obsolete, []
        self._is_dirty = False
        try:
            await self._save_with_repeats(answers, obsolete)
        except RehydrateError as error:
            self._is_lost = True
            give_up(error)
            waiting += self._waiting
            for saved in waiting:
                saved.cancel()
        else:
            self._in_store.update(answers)
            self._in_store.difference_update(obsolete)
            for saved in waiting:
                saved.set_result(None)
        finally:
            self._saved.set()

    async def _save_with_repeats(self, answers: dict[int, bytes], obsolete: list[int]) -> None:
        for pause in (*PAUSES, None):
            try:
                await self._progress.save(answers.items(), obsolete)
            except StoreUnavailableError as error:
                if pause is None or not error.retryable:
                    raise
                await asyncio.sleep(pause)
            else:
                return


def _too_many_failed(name: str) -> RehydrateError:
    return RehydrateError(
        f"run {name!r} stops: more than {MAX_FAILED:,} of its lines have failed; "
        "correct what they have in common, the same call then runs them again"
    )
