"""`rehydrate copy`: one call from its first look to its last sentence."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from rehydrate.cli.asking import persistently
from rehydrate.cli.endings import FAILED, say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.interrupts import interruptible
from rehydrate.cli.moving.bar import bar
from rehydrate.cli.moving.consumers import ConsumerCopy
from rehydrate.cli.moving.copying import Advance, EventCopy
from rehydrate.cli.run.report import many
from rehydrate.errors import ConfigurationError, RehydrateError, StoreUnavailableError
from rehydrate.store.port import Store
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl

OUTLOOK: Final = "what was copied stays, and the same call goes on there"


async def copy_store(source_url: str, destination_url: str, *, seal: bool) -> int:
    """Copy a store, and say how it went. Returns the exit code: 1 if a checkpoint was not copied."""
    refuse_same(source_url, destination_url)
    return await interruptible(_copy(source_url, destination_url, seal=seal), OUTLOOK)


def refuse_same(source: str, destination: str) -> None:
    """Raise `ConfigurationError` where two URLs name one store; what a name does not show is found out later."""
    one, other = StoreUrl(source), StoreUrl(destination)
    is_same = source == destination
    if one.scheme == other.scheme == "sqlite":
        is_same = _is_same_file(Path(one.path), Path(other.path))
    if is_same:
        raise ConfigurationError(f"{other.shown} is where the events come from: name another store")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


async def _copy(source_url: str, destination_url: str, *, seal: bool) -> int:
    async with existing_store(source_url) as source:
        destination = await open_store(destination_url)
        call = _Call(source, destination)
        try:
            with bar() as advance:
                await call.execute(advance, seal=seal)
        except StoreUnavailableError as error:
            raise RehydrateError(f"{error}; {call.outlook()}") from error
        finally:
            await destination.close()
    for sentence in call.sentences():
        say(sentence)
    return FAILED if call.consumers.not_copied else 0


class _Call:
    def __init__(self, source: Store, destination: Store) -> None:
        self.events = EventCopy(source, destination)
        self.consumers = ConsumerCopy(source, destination, self.events.reach)
        self._source = source
        self._destination = destination
        self._wants_seal = False
        self._may_be_sealed = False
        self._is_sealed = False
        self._began = time.monotonic()

    async def execute(self, advance: Advance, *, seal: bool) -> None:
        self._wants_seal = seal
        self.events.advance = advance
        await self.events.begin()
        if self.events.before or seal:
            await self.events.refuse_itself()
        await self.events.refuse_sealed()
        await self._copy(advance)
        if seal and not self.events.compared.events:
            raise ConfigurationError(
                f"{self._source.url} holds no events, and was not sealed: is it the store that you meant?"
            )
        # There is no way back from a seal: whatever waiting does not cure has to be put right before.
        if seal and all(each.may_pass for each in self.consumers.not_copied):
            self._may_be_sealed = True
            await persistently(self._source.seal)
            self._is_sealed = True
            await self._copy(advance)

    async def _copy(self, advance: Advance) -> None:
        await self.events.keep_up()
        await self.consumers.execute(lambda done, total: advance("checkpoints", done, total))

    def outlook(self) -> str:
        """What is left to do by a call that did not come to its end."""
        if self._is_sealed:
            return f"{self._source.url} is sealed, {OUTLOOK}"
        return f"{self._source.url} may be sealed by now, {OUTLOOK}" if self._may_be_sealed else OUTLOOK

    def sentences(self) -> list[str]:
        """What a person should know."""
        return [self._of_events(), *self._of_consumers(), self._what_next()]

    def _of_events(self) -> str:
        events = self.events
        new = events.compared.events - events.before
        seconds = max(time.monotonic() - self._began, 0.001)
        there = f", {events.before:,} were there before" if events.before else ""
        if not events.compared.events:
            return f"{self._source.url} holds no events: is it the store that you meant?"
        return (
            f"{many(new, 'event')} copied from {self._source.url} to {self._destination.url} in {seconds:.2f} s"
            f"{there}: all {events.compared.events:,} up to position {events.compared.source_position:,} of the source "
            "were compared, and are the same in the same order"
        )

    def _of_consumers(self) -> list[str]:
        consumers = self.consumers
        told: list[str] = []
        unchanged = len(consumers.seen) - len(consumers.copied) - len(consumers.not_copied)
        if consumers.copied or unchanged:
            told.append(
                f"{many(len(consumers.copied), 'checkpoint')} copied with {many(sum(consumers.copied.values()), 'view')}"
                + (f", {unchanged:,} had not moved" if unchanged else "")
            )
        for each in consumers.not_copied:
            later = "; the same call tries again" if each.may_pass else ""
            told.append(f"checkpoint {each.name!r} was not copied: {each.why}{later}")
        told.append("snapshots are not copied: they are taken anew")
        return told

    def _what_next(self) -> str:
        source, destination = self._source.url, self._destination.url
        if self._is_sealed and not self.consumers.not_copied:
            return f"{source} is sealed and takes no more events: start your programs with {destination} in its place"
        if self._is_sealed:
            return f"{source} is sealed and takes no more events: call this again before you start with {destination}"
        if self._wants_seal:
            return f"{source} is not sealed: there is no way back from that, so first put right what was not copied"
        return f"the same call again copies what {source} takes in from now on; with --seal {source} then takes no more"
