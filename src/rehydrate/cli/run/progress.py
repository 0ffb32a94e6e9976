"""What a named run has finished, kept in the store as a checkpoint with views, so that the same call can go on.

The checkpoint `run:NAME` stands at the head of the store before the first line was sent: no command of the run is
older, and that is the `caused_at` of each. Its views hold what changes:

    progress     the first line that is not answered, a digest of the lines before it, and those of them that failed
    answer/LINE  the answer to a line beyond that which stored nothing: its repeat would be decided anew

A line that stored events needs no entry: its command id is `run:NAME:LINE`, and a repeat gets the first result.
Whoever takes a run over raises the epoch and leaves the views alone, and only then reads them: what the earlier holder
saved up to that moment is kept, and all that it saves later is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from rehydrate.cli.asking import event_at
from rehydrate.cli.misfit import why_misfit
from rehydrate.domain.streams import MAX_ID_BYTES, check_id
from rehydrate.errors import ConfigurationError, CorruptStoreError, RehydrateError
from rehydrate.store.port import Checkpoint, Store, ViewChange

FORMAT: Final = 1
MAX_FAILED: Final = 1_000
"""Failed lines that a named run keeps in mind; with more of them something is wrong with all."""
AHEAD: Final = 16_384
"""Lines that may be sent beyond the saved progress: what the next call sends again after a `kill -9`."""

MAX_NAME_BYTES: Final = MAX_ID_BYTES - len("run::") - 19
"""So that a command id of the run, with a line number of 19 digits, is an id that every store takes."""

_PROGRESS: Final = "progress"
_ANSWER: Final = "answer/"


class TakenOverError(RehydrateError):
    """The same run was begun again elsewhere, and goes on there; nothing is stored twice."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"run {name!r} was taken over by a later call with this name; it goes on there, this one stops"
        )
        self.name = name


class InputChangedError(RehydrateError):
    """The input of a named run is not the one that its earlier call read; none of its lines was sent."""


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    first: int
    digest: str
    failed: list[int]


class RunProgress:
    """The progress of one named run, held by this process until another one takes it over."""

    def __init__(self, store: Store, name: str, checkpoint: Checkpoint, *, is_new: bool) -> None:
        self.name = name
        self.is_new = is_new
        """Whether no earlier call has sent anything."""
        self.first = 1
        """The first line that is not answered; those in `failed` before it were, and are to be run again."""
        self.digest = 0
        """Of all lines before `first` but those that failed."""
        self.failed: set[int] = set()
        self.answers: dict[int, bytes] = {}
        """To lines from `first` on, or failed before, that stored nothing, from an earlier call."""
        self.saved_first = 1
        self._store = store
        self._checkpoint = checkpoint

    @property
    def caused_at(self) -> int:
        """A position before which no command of this run was sent."""
        return self._checkpoint.position

    def command_id(self, line: int) -> str:
        """The id of the command on that line, in every call of this run."""
        return f"run:{self.name}:{line}"

    async def save(self, answers: Iterable[tuple[int, bytes]], answered: Iterable[int]) -> None:
        """Save the place, add `answers` that stored nothing, and forget those that are before the place now.

        Raises `TakenOverError` if another process holds the run.
        """
        first = self.first
        progress = _Progress(
            format=FORMAT, first=first, digest=f"{self.digest:032x}", failed=sorted(self.failed)
        )
        views = [ViewChange(_PROGRESS, msgspec.json.encode(progress))]
        views += [ViewChange(f"{_ANSWER}{line}", answer) for line, answer in answers]
        views += [ViewChange(f"{_ANSWER}{line}", None) for line in answered]
        # The place itself never moves, so a save whose answer was lost can be repeated as it is.
        if not await self._store.save_checkpoint(self._checkpoint, previous=self._checkpoint, views=views):
            raise TakenOverError(self.name)
        self.saved_first = first


async def take_run(store: Store, name: str) -> RunProgress:
    """Begin a run, or take it over from whoever holds it.

    Raises `InvalidIdError` for a name that cannot be one, `CorruptStoreError` if the log is not the one that the run
    was begun on, and `StoreUnavailableError` if that cannot be told: what was saved of the run stays, so try again.
    """
    check_id(name, "run name", MAX_NAME_BYTES)
    checkpoint, is_new = await _take(store, f"run:{name}")
    run = RunProgress(store, name, checkpoint, is_new=is_new)
    if not is_new:
        await _check_log(store, name, checkpoint)
    await _load(store, run, f"run:{name}")
    return run


async def _take(store: Store, name: str) -> tuple[Checkpoint, bool]:
    """The checkpoint as it is now that it is ours, and whether there was none before."""
    while True:
        there = await store.load_checkpoint(name)
        if there is None:
            head = await store.head()
            ours = Checkpoint(name=name, position=head.position, event_id=head.event_id, epoch=1)
        else:
            ours = msgspec.structs.replace(there, epoch=there.epoch + 1)
        # Another process may do the same at this moment: then look again, and take it over from that one.
        if await store.save_checkpoint(ours, previous=there):
            return ours, there is None


async def _check_log(store: Store, name: str, checkpoint: Checkpoint) -> None:
    if checkpoint.position and await event_at(store, checkpoint) is None:
        raise CorruptStoreError(
            f"run {name!r} was begun on another log: this one does not hold its event at position "
            f"{checkpoint.position}; use another name"
        )


async def _load(store: Store, run: RunProgress, name: str) -> None:
    data = await store.load_view(name, _PROGRESS)
    if data is not None:
        progress = _decode(data, run.name)
        run.first = run.saved_first = progress.first
        run.digest = int(progress.digest, 16)
        run.failed = set(progress.failed)
    after = ""
    while page := await store.list_views(name, prefix=_ANSWER, after=after):
        run.answers.update((int(key.removeprefix(_ANSWER)), answer) for key, answer in page)
        after = page[-1][0]


def _decode(data: bytes, name: str) -> _Progress:
    try:
        progress = msgspec.json.decode(data, type=_Progress)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(
            f"the progress of run {name!r} cannot be read: {why_misfit(error)}"
        ) from error
    if progress.format != FORMAT:
        raise ConfigurationError(
            f"run {name!r} was begun by another version of Rehydrate; finish it with that one"
        )
    return progress
