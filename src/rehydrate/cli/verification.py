"""Whether what is stored agrees with itself, and with the code of an App.

First the log, once through: positions, versions, checkpoints, and a digest of each stream. Then each stream: it must
be what the log showed of it; with an App its events are decoded and folded, its snapshot is compared with that, and what
it is still to send is decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from rehydrate.app import App
from rehydrate.cli.asking import events_behind
from rehydrate.cli.fold import Fold
from rehydrate.cli.unsent import SentSoFar, Unsent
from rehydrate.codec.projection import check_projections
from rehydrate.domain.streams import split_stream_name
from rehydrate.errors import ConfigurationError, CorruptStoreError, InvalidIdError
from rehydrate.runtime.control import is_claim
from rehydrate.runtime.process import Instances
from rehydrate.runtime.view_type import check_view_type
from rehydrate.store.port import Checkpoint, Head, Store, StoredEvent

MAX_FINDINGS: Final = 1_000
"""Findings that are kept; a store that is wholly wrong would fill the memory with them."""

Advance = Callable[[int, int], object]
"""Told how many events were read, and of how many; the log is read first, and then again stream by stream."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it must be."""

    what: str
    where: str
    detail: str


class Seen(msgspec.Struct):
    """A stream as the log showed it."""

    version: int = 0
    digest: bytes = b""


class Verification:
    """Looks at everything in a store once, and writes down what is wrong."""

    def __init__(self, store: Store, app: App | None, advance: Advance) -> None:
        self.findings: list[Finding] = []
        self.found = 0
        """Findings in all, also those that were not kept."""
        self.events = 0
        self.checkpoints = 0
        self.streams: dict[str, Seen] = {}
        self.not_decoded: Counter[str] = Counter()
        """How many streams there are of each aggregate that the App does not have."""
        self._store = store
        self._folded = app.folded() if app else None
        self._app = app
        self._sent: dict[str, SentSoFar] = {}
        """Of each process manager."""
        self._advance = advance

    async def check(self) -> None:
        """Look at the store as it is now; what others append meanwhile is left out.

        Raises `StoreUnavailableError` if the log is not shown up to its head within seconds: a replica may lag behind.
        """
        checkpoints = [
            checkpoint for checkpoint in await self._store.list_checkpoints() if not is_claim(checkpoint.name)
        ]
        # After the checkpoints: each of them stands at an event that the log has up to here.
        head = await self._store.head()
        await self._check_log(head, checkpoints)
        await self._check_list()
        self._check_views({checkpoint.name: checkpoint for checkpoint in checkpoints})
        read = 0
        for stream, seen in self.streams.items():
            await self._check_stream(stream, seen)
            read += seen.version
            self._advance(self.events + read, 2 * self.events)

    def _find(self, what: str, where: str, detail: str) -> None:
        self.found += 1
        if self.found <= MAX_FINDINGS:
            self.findings.append(Finding(what, where, detail))

    # ---- the log

    async def _check_log(self, head: Head, checkpoints: Sequence[Checkpoint]) -> None:
        waiting = sorted(checkpoints, key=lambda checkpoint: checkpoint.position, reverse=True)
        self.checkpoints = len(waiting)
        last = Head(0, "")
        async for event in self._log(head):
            while waiting and waiting[-1].position < event.position:
                self._check_checkpoint(waiting.pop(), last)
            if event.position <= last.position:
                self._find(
                    "position",
                    event.stream,
                    f"position {event.position} comes after position {last.position}",
                )
            last = Head(event.position, event.id)
            self._check_version(event)
        for checkpoint in waiting:
            self._check_checkpoint(checkpoint, last)
        if last != head:
            self._find(
                "head",
                self._store.url,
                f"the log ends at position {last.position}, and its head says {head.position}",
            )

    async def _log(self, head: Head) -> AsyncIterator[StoredEvent]:
        after = 0
        while after < head.position:
            events = await events_behind(self._store, after, newest=head.position)
            for event in events:
                if event.position <= head.position:
                    self.events += 1
                    yield event
            read = events[-1].position
            self._advance(read, 2 * head.position)
            if read <= after:
                return
            after = read

    def _check_version(self, event: StoredEvent) -> None:
        seen = self.streams.get(event.stream)
        if seen is None:
            seen = self.streams[event.stream] = Seen()
        if event.version != seen.version + 1:
            self._find("version", event.stream, f"version {event.version} comes after version {seen.version}")
        seen.version = event.version
        seen.digest = _chained(seen.digest, event)

    def _check_checkpoint(self, checkpoint: Checkpoint, last: Head) -> None:
        """Compare a checkpoint with the last event up to its position."""
        there = Head(0, "") if checkpoint.position == 0 else last
        if Head(checkpoint.position, checkpoint.event_id) != there:
            self._find(
                "checkpoint",
                checkpoint.name,
                f"the log does not hold its event {checkpoint.event_id!r} at position {checkpoint.position}",
            )

    def _check_views(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """The views of the App's projections have to be of the type that it declares."""
        if self._app is None:
            return
        for projection in self._app.projections.values():
            try:
                codec = check_projections([projection], self._app.aggregates)[projection.name]
                check_view_type(projection, codec, checkpoints.get(projection.consumer))
            except (ConfigurationError, CorruptStoreError) as error:
                self._find("views", projection.consumer, str(error))

    # ---- the streams

    async def _check_list(self) -> None:
        """The list of streams has to name those in the log, at least at their versions there."""
        missing = set(self.streams)
        after = ""
        while page := await self._store.streams(after=after):
            for each in page:
                if each.stream not in missing:
                    continue
                missing.remove(each.stream)
                if each.version < (version := self.streams[each.stream].version):
                    self._find(
                        "stream", each.stream, f"listed at version {each.version}, the log has {version}"
                    )
            after = page[-1].stream
        for stream in sorted(missing):
            self._find("stream", stream, "the log has events of it, and the list of streams does not")

    async def _check_stream(self, stream: str, seen: Seen) -> None:
        fold, unsent = await self._fold_of(stream), await self._unsent_of(stream)
        digest, version = b"", 0
        while version < seen.version:
            page = await self._store.read_stream(stream, after=version)
            events = [event for event in page.events if event.version <= seen.version]
            for event in events:
                digest = _chained(digest, event)
            if fold is not None:
                fold.add(events)
            if unsent is not None:
                unsent.add(events)
            if not events:
                break
            version = events[-1].version
        if digest != seen.digest:
            self._find("stream", stream, "read alone it is not what the log shows of it")
        if fold is not None:
            fold.end()
            for what, detail in fold.problems:
                self._find(what, stream, detail)
        if unsent is not None:
            for detail in unsent.problems():
                self._find("command", stream, detail)

    async def _fold_of(self, stream: str) -> Fold | None:
        if self._folded is None:
            return None
        name = _aggregate_of(stream)
        if name not in self._folded:
            self.not_decoded[name or stream] += 1
            return None
        snapshot = await self._store.load_snapshot(stream)
        aggregate, codecs = self._folded[name]
        return Fold(aggregate, codecs, snapshot)

    async def _unsent_of(self, stream: str) -> Unsent | None:
        name = _aggregate_of(stream)
        instances, _ = (self._folded or {}).get(name, (None, None))
        if not isinstance(instances, Instances):
            return None
        if name not in self._sent:
            self._sent[name] = await SentSoFar.of(self._store, name)
        return Unsent(instances, self._sent[name])


def _aggregate_of(stream: str) -> str:
    """The name of its aggregate; empty for what is no name of a stream."""
    try:
        return split_stream_name(stream)[0]
    except InvalidIdError:
        return ""


def _chained(digest: bytes, event: StoredEvent) -> bytes:
    """A digest of an event and of all before it in its stream."""
    return blake2b(msgspec.msgpack.encode((digest, event)), digest_size=16).digest()
