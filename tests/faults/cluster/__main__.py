"""The fault matrix: `python -m tests.faults.cluster [ROW...]` plays all rows, or these, and prints the table.

When all of them were played and nothing was wrong, the table is written into the documentation as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.faults.cluster.growth import GROWTH, grow
from tests.faults.cluster.network import Loopback, Namespaces, Network, why_no_namespaces
from tests.faults.cluster.required import are_required
from tests.faults.cluster.rows import ROWS
from tests.faults.cluster.scene import Result, Row, play
from tests.faults.cluster.table import PAGE, line, table, written_into

ALL: Final = (*ROWS, GROWTH)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - progress for people


def network(hosts: int = 3) -> Network:
    """Hosts of their own where the system allows it."""
    return Loopback(hosts) if why_no_namespaces() else Namespaces(hosts)


async def main(names: Sequence[str], *, keep: bool) -> int:
    rows = [row for row in ALL if not names or row.name in names]
    reason = why_no_namespaces()
    if reason:
        say(f"NOT ALL ROWS: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="rehydrate-faults-"))
    results: list[Result | tuple[Row, str]] = []
    is_wrong = bool(reason) and are_required()
    for number, row in enumerate(rows, start=1):
        if row.needs_cables and reason:
            results.append((row, "needs network namespaces"))
            continue
        say(f"[{number}/{len(rows)}] {row.name}: {row.what}")
        began = time.monotonic()
        hosts = network(4 if row is GROWTH else 3)
        try:
            result = await (grow if row is GROWTH else play)(row, folder / row.name, hosts)
        finally:
            hosts.close()
        results.append(result)
        is_wrong |= told(result, time.monotonic() - began)
    if is_wrong or keep:
        say(f"what was written down lies in {folder}")
    else:
        shutil.rmtree(folder)
    text = f"{machine()}\n\n{table(results)}"
    if not (is_wrong or names or reason):
        PAGE.write_text(written_into(PAGE.read_text("utf-8"), text), "utf-8")
    say(f"\n{text}")
    return int(is_wrong)


def told(result: Result, seconds: float) -> bool:
    """Say how it went; whether anything is wrong."""
    ours, plain = result.ours, result.plain
    say(
        f"    {seconds:.0f} s; {ours.acknowledged} answers, worst {ours.worst:.2f} s ({ours.worst_account}), "
        f"plain {plain.worst:.2f} s; without a leader {result.leaderless:.2f} s, plain {result.plain_leaderless:.2f} s; "
        f"{ours.errors or 'no errors'}; {result.unknown} without an answer"
    )
    say(f"    {line(result)}")
    for violation in result.violations[:10]:
        say(f"    WRONG: {violation.kind}: {violation.what}")
    for error in result.unexpected:
        say(f"    WRONG: callers were answered with {error}")
    return bool(result.violations or result.unexpected)


def machine() -> str:
    """Where it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on {platform.system()} "
        f"{platform.release().partition('-')[0]}, {os.cpu_count()} cores of {platform.machine()}, {memory:.0f} GiB; all "
        "three hosts are network namespaces of this one machine and share its cores and its disk. Its load was "
        f"{os.getloadavg()[2]:.0f} over the last quarter of an hour."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make test-faults", description="Play the fault matrix.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="of " + ", ".join(row.name for row in ALL))
    parser.add_argument("--keep", action="store_true", help="leave journals and logs where they are")
    given = parser.parse_args()
    for unknown in set(given.rows) - {row.name for row in ALL}:
        parser.error(f"there is no row {unknown!r}")
    sys.exit(asyncio.run(main(given.rows, keep=given.keep)))
