"""How long the servers had no leader for a JetStream stream, as each of them says of itself.

Its monitoring port says who leads as soon as the votes are counted, and a server that was just started, and has not found
the others yet, says that it leads everything. Its log says when it has taken up its work. So a server that did not lead,
or was started anew, leads when both say so.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from rehydrate.nats.monitor import jetstream
from tests.faults.cluster.site import EVENTS, PLAIN, Host, Site

_LOOK: Final = 0.05
_LINE: Final = re.compile(
    r"^\[\d+\] (?P<at>\S+ \S+) \[INF\] (?:(?P<start>Starting nats-server)|"
    r"JetStream cluster new stream leader for '\S+ > (?P<stream>\S+)')",
    re.MULTILINE,
)


class Look(NamedTuple):
    """What a server said of itself."""

    asked: float
    at: float
    host: str
    leads: frozenset[str]
    """Which JetStream streams."""


class Took(NamedTuple):
    """A line of a server's log: it has taken up the lead of a JetStream stream; or, of none, it was started."""

    at: float
    stream: str


@asynccontextmanager
async def watching(site: Site) -> AsyncGenerator[list[Look]]:
    """Look all the time at who leads what."""
    looks: list[Look] = []

    async def look(host: Host) -> None:
        while True:
            asked = time.monotonic()
            told = await site.ask(host, jetstream)
            if told is not None:
                leaders = told.leaders()
                leads = frozenset(stream for stream in (EVENTS, PLAIN) if leaders.get(stream) == host.name)
                looks.append(Look(asked, time.monotonic(), host.name, leads))
            await asyncio.sleep(_LOOK)

    # Each by itself, for one that stands still does not answer.
    looking = [asyncio.create_task(look(host)) for host in site.hosts]
    try:
        yield looks
    finally:
        for task in looking:
            task.cancel()
        await asyncio.wait(looking)
        for task in looking:
            if not task.cancelled():
                task.result()


def taken_up(log: str) -> list[Took]:
    """What a server's log says of that, by the machine's monotonic clock."""
    behind = time.time() - time.monotonic()
    return [Took(_time_of(line["at"]) - behind, line["stream"] or "") for line in _LINE.finditer(log)]


def _time_of(text: str) -> float:
    return datetime.strptime(text, "%Y/%m/%d %H:%M:%S.%f").astimezone().timestamp()


def longest_without(
    stream: str, looks: Sequence[Look], logs: Mapping[str, Sequence[Took]], begin: float, end: float
) -> float:
    """The longest time in which none of the hosts with these logs led."""
    led: list[float] = []
    for host, log in logs.items():
        led += _led(stream, [look for look in looks if look.host == host], log, begin)
    times = sorted(at for at in led if begin <= at <= end)
    return max(after - before for before, after in pairwise([begin, *times, end]))


def _led(stream: str, looks: Sequence[Look], log: Sequence[Took], begin: float) -> list[float]:
    """When it was seen to lead, or has said that it does from then on; before the beginning it was believed."""
    led: list[float] = []
    took = [one.at for one in log if one.stream == stream]
    started = [one.at for one in log if not one.stream and one.at > begin]
    lost = float("-inf")
    for look in sorted(looks, key=lambda look: look.at):
        lost = max([lost, *(at for at in started if at <= look.at)])
        if stream not in look.leads:
            lost = max(lost, look.asked)
        elif lost == float("-inf"):
            led.append(look.at)
        elif since := [at for at in took if lost < at <= look.at]:
            led += [since[0], look.at]
    return led
