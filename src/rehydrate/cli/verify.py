"""`rehydrate verify`: whether what is stored agrees with itself, and with the code of an App.

First the log, once through: positions, versions, and a digest of each stream. Then each stream: it must be what the
log said; with an App its events are decoded and folded, and its snapshot compared with the fold.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from rehydrate.app import App
from rehydrate.cli.endings import FAILED, say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.fold import Fold
from rehydrate.cli.run.report import many
from rehydrate.cli.table import visible, write_json
from rehydrate.codec.aggregate import AggregateCodecs, check_aggregates
from rehydrate.store.port import Checkpoint, Head, Store, StoredEvent

MAX_FINDINGS: Final = 1_000
"""Findings that are listed; a store that is wholly wrong would fill the memory with them."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it must be."""

    what: str
    where: str
    detail: str


class Seen(msgspec.Struct):
    """A stream as the log showed it."""

    version: int = 0
    digest: bytes = b""


class Verifier:
    """Looks at everything in a store once, and writes down what is wrong."""

    def __init__(self, store: Store, app: App | None, advance: Callable[[int], object]) -> None:
        self.findings: list[Finding] = []
        self.found = 0
        self.events = 0
        self.streams: dict[str, Seen] = {}
        self.unknown_streams = 0
        """Streams of aggregates that the App does not have: they were not decoded."""
        self._store = store
        self._app = app
        self._codecs: Mapping[str, AggregateCodecs] = check_aggregates(list(app.aggregates.values())) if app else {}
        self._advance = advance

    def find(self, what: str, where: str, detail: str) -> None:
        """Write a finding down."""
        self.found += 1
        if self.found <= MAX_FINDINGS:
            self.findings.append(Finding(what, where, detail))

    async def check(self, head: Head) -> None:
        """Look at the store up to its head of now; what others append meanwhile is left out."""
        checkpoints = [each for each in await self._store.list_checkpoints() if each.position <= head.position]
        beyond = [each for each in await self._store.list_checkpoints() if each.position > head.position]
        await self._check_log(head, checkpoints)
        newest = await self._store.head()
        for checkpoint in beyond:
            if checkpoint.position > newest.position:
                self._wrong_checkpoint(checkpoint, f"the log ends at position {newest.position}")
        await self._check_list()
        for stream, seen in self.streams.items():
            await self._check_stream(stream, seen)

    # ---- the log

    async def _check_log(self, head: Head, checkpoints: list[Checkpoint]) -> None:
        waiting = sorted(checkpoints, key=lambda checkpoint: checkpoint.position, reverse=True)
        position = 0
        last_id = ""
        async for event in self._log(head):
            if event.position <= position:
                self.find("position", event.stream, f"position {event.position} comes after position {position}")
            while waiting and waiting[-1].position < event.position:
                self._check_checkpoint(waiting.pop(), position, last_id)
            position, last_id = event.position, event.id
            self._check_version(event)
        for checkpoint in waiting:
            self._check_checkpoint(checkpoint, position, last_id)
        if (position, last_id) != (head.position, head.event_id):
            self.find("head", self._store.url, f"the log ends at position {position}, its head says {head.position}")

    async def _log(self, head: Head) -> AsyncIterator[StoredEvent]:
        after = 0
        while after < head.position:
            page = await self._store.read_all(after=after)
            for event in page.events:
                if event.position <= head.position:
                    yield event
            self.events += len(page.events)
            self._advance(len(page.events))
            if page.is_last or page.position <= after:
                return
            after = page.position

    def _check_version(self, event: StoredEvent) -> None:
        seen = self.streams.get(event.stream)
        if seen is None:
            seen = self.streams[event.stream] = Seen()
        if event.version != seen.version + 1:
            self.find("version", event.stream, f"version {event.version} comes after version {seen.version}")
        seen.version = event.version
        seen.digest = _chained(seen.digest, event)

    def _check_checkpoint(self, checkpoint: Checkpoint, position: int, event_id: str) -> None:
        if checkpoint.position == 0:
            position, event_id = 0, ""
        if (checkpoint.position, checkpoint.event_id) != (position, event_id):
            self._wrong_checkpoint(checkpoint, "the log does not hold this event there")

    def _wrong_checkpoint(self, checkpoint: Checkpoint, why: str) -> None:
        self.find(
            "checkpoint", checkpoint.name, f"it is at position {checkpoint.position}, event {checkpoint.event_id!r}: {why}"
        )

    # ---- the streams

    async def _check_list(self) -> None:
        """The list of streams names those in the log, at least at their versions there."""
        listed: set[str] = set()
        after = ""
        while page := await self._store.streams(after=after):
            for each in page:
                seen = self.streams.get(each.stream)
                if seen is not None:
                    listed.add(each.stream)
                    if each.version < seen.version:
                        self.find("stream", each.stream, f"it is listed at version {each.version}, the log has {seen.version}")
            after = page[-1].stream
        for stream in self.streams.keys() - listed:
            self.find("stream", stream, "the log has events of it, and it is not listed")

    async def _check_stream(self, stream: str, seen: Seen) -> None:
        fold = self._fold_of(stream)
        digest, version = b"", 0
        while version < seen.version:
            page = await self._store.read_stream(stream, after=version)
            for event in page.events:
                if event.version > seen.version:
                    break
                version, digest = event.version, _chained(digest, event)
                if fold is not None and (problem := fold.add(event)):
                    self.find(problem.what, stream, problem.detail)
            self._advance(len(page.events))
            if page.is_last or not page.events:
                break
        if (version, digest) != (seen.version, seen.digest):
            self.find("stream", stream, "read alone it differs from what the log shows of it")
        if fold is not None and (problem := fold.end()):
            self.find(problem.what, stream, problem.detail)

    def _fold_of(self, stream: str) -> Fold | None: ...


def _chained(digest: bytes, event: StoredEvent) -> bytes:
    """A digest of an event and all before it in its stream."""
    return blake2b(msgspec.msgpack.encode((digest, event)), digest_size=16).digest()
