"""One row of the matrix as it is played: what is done when, on which of the hosts, and what was seen meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from tests.faults.cluster.history import Violation, violations
from tests.faults.cluster.journal import Attempt, Failed
from tests.faults.cluster.leaders import longest_without, taken_up, watching
from tests.faults.cluster.measures import Measures, measures
from tests.faults.cluster.network import Network
from tests.faults.cluster.site import EVENTS, PLAIN, Host, Site
from tests.faults.cluster.skew import Skew

WARM: Final = 40
"""Answers that every application gets before anything is measured."""
STEADY: Final = 150
"""And before the fault, and after it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A fault."""

    name: str
    what: str
    """What was done, for the table."""
    act: Act
    ttl: int = 15
    needs_cables: bool = False
    delay: float = 0.0
    skews: Sequence[Skew | None] = (None, None, None)
    also_answered: frozenset[str] = frozenset()
    """Errors that callers may be answered with, beside those after which they repeat."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    row: Row
    violations: Sequence[Violation]
    unexpected: Sequence[str]
    """Errors that no caller should see."""
    unknown: int
    """Commands without an answer at the end, whose callers were killed."""
    ours: Measures
    plain: Measures
    leaderless: float
    """The longest time in which the JetStream stream of the events had no leader that a majority could reach."""
    plain_leaderless: float


class Scene:
    """What a fault is done to."""

    def __init__(self, site: Site, row: Row, leader: Host, steady: int) -> None:
        self.site = site
        self.row = row
        self._steady = steady
        self.leader = leader
        """Whose node leads the events, and the plain publishes."""
        self.measured = list(site.hosts)
        """The hosts whose callers count: not those that were killed, stopped or cut off themselves."""
        self.reachable = list(site.hosts)
        """The hosts whose nodes lead for the others, if they lead."""

    @property
    def followers(self) -> list[Host]:
        return [host for host in self.site.hosts if host is not self.leader]

    def without(self, *hosts: Host) -> list[Host]:
        """From now on callers on these hosts are not measured; the others."""
        self.measured = [host for host in self.measured if host not in hosts]
        return self.measured

    def out_of_reach(self, host: Host) -> list[Host]:
        """From now on the others do not hear this host, whatever its node says of itself; the others."""
        self.reachable = [other for other in self.reachable if other is not host]
        return self.without(host)

    async def get_on(self, hosts: Sequence[Host] | None = None) -> None:
        """Wait until callers on these hosts have got many more answers."""
        await self.site.get_on(self._steady, hosts)

    async def lasting(self, seconds: float) -> None:
        """A fault that lasts for a while, whatever happens meanwhile."""
        await asyncio.sleep(seconds)

    async def bring_back(self, *hosts: Host) -> None:
        """Start the nodes of these hosts again, and wait until they have caught up."""
        await self.site.start_nodes(hosts)
        await self.site.healthy()


Act: TypeAlias = Callable[[Scene], Awaitable[None]]


async def play(
    row: Row, folder: Path, network: Network, *, steady: int = STEADY, beside: bool = True
) -> Result:
    """Start three hosts, let the callers call, do it to them, and look at what came of it.

    `beside`: whether plain publishers meet the same fault.
    """
    folder.mkdir(parents=True)
    site = Site(folder, network, ttl=row.ttl, delay=row.delay, skews=row.skews)
    try:
        await site.start(publishers=beside)
        await site.get_on(WARM)
        leader = await (site.led_alike(site.hosts[0]) if beside else site.leader(EVENTS))
        scene = Scene(site, row, leader, steady)
        began = time.monotonic()
        await site.get_on(steady)
        async with watching(site) as looks:
            fault = time.monotonic()
            await row.act(scene)
            over = time.monotonic()
            await site.get_on(steady)
            ended = time.monotonic()
        await site.finish()
        log = await site.log()
    finally:
        await site.close()
    attempts = site.journals()
    of_measured = site.journals(hosts=scene.measured)
    plain = site.journals("plain", scene.measured)
    logs = {host.name: taken_up(site.server_log(host)) for host in scene.reachable}
    return Result(
        row=row,
        violations=violations(attempts, log),
        unexpected=unexpected(attempts, row.also_answered),
        unknown=unanswered(attempts),
        ours=measures(of_measured, began=began, fault=fault, over=over, ended=ended),
        plain=measures(plain, began=began, fault=fault, over=over, ended=ended),
        leaderless=longest_without(EVENTS, looks, logs, fault, ended),
        plain_leaderless=longest_without(PLAIN, looks, logs, fault, ended),
    )


EXPECTED: Final = frozenset({
    "CommandTimeoutError", "MailboxFullError", "OutcomeUnknownError", "StoreUnavailableError", "VersionConflictError",
})  # fmt: skip
"""What callers may be answered with in trouble, and repeat."""


def unexpected(attempts: Sequence[Attempt], also: frozenset[str]) -> list[str]:
    errors = {attempt.answer.error for attempt in attempts if isinstance(attempt.answer, Failed)}
    return sorted(errors - EXPECTED - also)


def unanswered(attempts: Sequence[Attempt]) -> int:
    """How many commands have no answer but errors."""
    asked = {attempt.asked.id for attempt in attempts if attempt.asked.is_command}
    return len(
        asked
        - {
            attempt.asked.id
            for attempt in attempts
            if attempt.answer is not None and not isinstance(attempt.answer, Failed)
        }
    )
