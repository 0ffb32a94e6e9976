"""Checkpoints and views: a place and the views that changed are stored as one, where the place is still the one it was."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from rehydrate.errors import CorruptStoreError
from rehydrate.store.nats.jetstream import JetStream, Message
from rehydrate.store.nats.keeping import EXPECTS, Keeper, Unknown, packed
from rehydrate.store.nats.listing import Listing
from rehydrate.store.nats.subjects import Subjects, last_text
from rehydrate.store.port import Checkpoint, ViewChange, is_same_place

MAX_VIEW_CHANGES: Final = 999
"""A batch has at most a thousand messages, and one is the place."""
_FORMAT: Final = 1
_REMOVED: Final = b""
_THERE: Final = b"\1"
"""Before the data of a view: an empty message says that there is none."""
_REMOVED_FOR: Final = "1h"
"""What stands in place of a view that was removed goes away by itself."""
_AT_ONCE: Final = 100


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint as it is kept."""

    format: int
    position: int
    event_id: str
    epoch: int
    data: bytes
    generation: str
    """Of the views: after a reset there are others, and those of before are nobody's."""
    mark: str
    """By it a save whose answer was lost is recognised."""

    def checkpoint(self, name: str) -> Checkpoint:
        return Checkpoint(
            name=name, position=self.position, event_id=self.event_id, epoch=self.epoch, data=self.data
        )


_decode: Final = msgspec.msgpack.Decoder(_Record).decode


class Consumers:
    """The checkpoints and views of one opened store."""

    def __init__(self, jetstream: JetStream, keeper: Keeper, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._keeper = keeper
        self._subjects = subjects
        self._in = subjects.consumers_stream
        self._keys = Listing(self._list)
        self._known: dict[str, tuple[int, _Record]] = {}
        """The places that were saved last over this connection, with the numbers of their messages."""

    def forget(self) -> None:
        """The JetStream stream may be another one: what was learned of it holds no more."""
        self._known.clear()

    # ---- checkpoints

    async def load(self, name: str) -> Checkpoint | None:
        _, record = await self._record(name)
        return None if record is None else record.checkpoint(name)

    async def load_all(self) -> list[Checkpoint]:
        names = sorted(await self._list(self._subjects.all_checkpoints))
        loaded: list[Checkpoint] = []
        for start in range(0, len(names), _AT_ONCE):
            part = await asyncio.gather(*map(self.load, names[start : start + _AT_ONCE]))
            loaded += filter(None, part)
        return loaded

    async def save(
        self, checkpoint: Checkpoint, previous: Checkpoint | None, views: Sequence[ViewChange]
    ) -> bool:
        mark = secrets.token_hex(8)
        attempts = self._keeper.attempts()
        # Whoever saved it last need not ask where it is: the number of that message says whether it still is there.
        known = self._known.pop(checkpoint.name, None)
        if known is not None and not is_same_place(known[1].checkpoint(checkpoint.name), previous):
            known = None
        while True:
            number, there = known or await self._record(checkpoint.name)
            known = None
            if there is not None and there.mark == mark:
                return True
            if not is_same_place(None if there is None else there.checkpoint(checkpoint.name), previous):
                return False
            record = _Record(
                format=_FORMAT,
                position=checkpoint.position,
                event_id=checkpoint.event_id,
                epoch=checkpoint.epoch,
                data=checkpoint.data,
                generation=secrets.token_hex(8) if there is None else there.generation,
                mark=mark,
            )
            why = "another save of the same place was under way"
            try:
                stored = await self._store(checkpoint.name, record, number, views)
                if stored is not None:
                    self._known[checkpoint.name] = stored, record
                    return True
            except Unknown as error:
                why = str(error)
            await attempts.pause(why)

    async def _store(self, name: str, record: _Record, last: int, views: Sequence[ViewChange]) -> int | None:
        """The number of the message that holds the place now; None where another one than `last` held it."""
        subject, data = self._subjects.checkpoint(name), packed(record)
        self._keeper.check_size(f"the checkpoint of {name}", data)
        if not views:
            return await self._keeper.store(subject, data, last=last)
        messages: list[tuple[str, bytes, Mapping[str, str]]] = []
        # The last change of a key is the one that counts.
        for key, view in {change.key: change.data for change in views}.items():
            place = self._subjects.view(name, record.generation, key)
            if view is None:
                messages.append((place, _REMOVED, {"Nats-TTL": _REMOVED_FOR}))
            else:
                self._keeper.check_size(f"the view {key} of {name}", view)
                messages.append((place, _THERE + view, {}))
        # The place is the last: it is the number of that one that is told.
        messages.append((subject, data, {EXPECTS: str(last)}))
        return await self._keeper.store_as_one(secrets.token_hex(16), messages)

    async def reset(self, name: str) -> None:
        mark = secrets.token_hex(8)
        attempts = self._keeper.attempts()
        generation = ""
        while True:
            number, there = await self._record(name)
            if there is None:
                return
            if there.mark == mark:
                break
            generation = there.generation
            record = _Record(
                format=_FORMAT,
                position=0,
                event_id="",
                epoch=there.epoch + 1,
                data=b"",
                generation=secrets.token_hex(8),
                mark=mark,
            )
            try:
                if await self._store(name, record, number, ()) is not None:
                    break
            except Unknown as error:
                await attempts.pause(error)
            else:
                await attempts.pause("the place moved while it was reset")
        await self._forget_views(name, generation)

    async def remove(self, name: str) -> None:
        number, there = await self._record(name)
        if there is None:
            return
        # A question is asked again where its answer is late: what is saved after this is not to go with the second one.
        await self._purge(self._subjects.checkpoint(name), upto=number)
        await self._forget_views(name, there.generation)

    async def _record(self, name: str) -> tuple[int, _Record | None]:
        """The number of the message that holds a place, and what it says; 0 for none."""
        last = await self._jetstream.last(self._in, self._subjects.checkpoint(name))
        if last is None:
            return 0, None
        try:
            record = _decode(last.data)
        except msgspec.DecodeError as error:
            raise CorruptStoreError(f"the checkpoint of {name} cannot be read: {error}") from error
        if record.format != _FORMAT:
            raise CorruptStoreError(
                f"the checkpoint of {name} was written by another Rehydrate: upgrade Rehydrate"
            )
        return last.number, record

    # ---- views

    async def load_view(self, name: str, key: str) -> bytes | None:
        _, record = await self._record(name)
        if record is None:
            return None
        return _view(await self._jetstream.last(self._in, self._subjects.view(name, record.generation, key)))

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        _, record = await self._record(name)
        if record is None:
            return {}
        return dict(await self._views(name, record.generation, keys))

    async def _views(self, name: str, generation: str, keys: Sequence[str]) -> list[tuple[str, bytes]]:
        """Those of these keys that have a view."""
        found: list[tuple[str, bytes]] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            subjects = [self._subjects.view(name, generation, key) for key in some]
            messages = await asyncio.gather(*[self._jetstream.last(self._in, one) for one in subjects])
            views = zip(some, map(_view, messages), strict=True)
            found += [(key, view) for key, view in views if view is not None]
        return found

    async def list_views(self, name: str, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        _, record = await self._record(name)
        if record is None:
            return []
        pattern = self._subjects.views(name, record.generation)
        views: list[tuple[str, bytes]] = []
        while (left := min(limit - len(views), _AT_ONCE)) > 0:
            keys = await self._keys.page(pattern, prefix, after, left)
            views += await self._views(name, record.generation, keys)
            if len(keys) < left:
                break
            after = keys[-1]
        return views

    async def _list(self, pattern: str) -> list[str]:
        return [last_text(subject) for subject in await self._jetstream.subjects(self._in, pattern)]

    async def _forget_views(self, name: str, generation: str) -> None:
        """Give back the room of views that are nobody's any more; where that fails they only take room."""
        await self._purge(self._subjects.views(name, generation))

    async def _purge(self, pattern: str, *, upto: int | None = None) -> None:
        up_to_there = {} if upto is None else {"seq": upto + 1}
        await self._jetstream.api(f"STREAM.PURGE.{self._in}", {"filter": pattern, **up_to_there})


def _view(message: Message | None) -> bytes | None:
    if message is None or message.data == _REMOVED:
        return None
    return message.data[len(_THERE) :]
