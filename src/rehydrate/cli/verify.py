"""`rehydrate verify`: the bar while a store is looked through, and the table of what was found."""

from __future__ import annotations

import sys
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rehydrate.app import App
from rehydrate.cli.endings import FAILED, say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.run.report import many
from rehydrate.cli.table import visible, write_json
from rehydrate.cli.verification import Verification

_SHOWN: Final = 10
"""Aggregates that are named which the App does not have."""


async def show_findings(url: str, app: App | None, *, as_table: bool) -> int:
    """Look through a store and write what is wrong. Returns the exit code: 1 if anything is."""
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    async with existing_store(url) as store:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("")
            verification = Verification(
                store, app, lambda done, total: bar.update(task, completed=done, total=total)
            )
            await verification.check()
        _write(verification, as_table=as_table)
        say(_summary(verification, store.url, app))
    return FAILED if verification.found else 0


def _write(verification: Verification, *, as_table: bool) -> None:
    if not as_table:
        write_json([msgspec.json.encode(finding) for finding in verification.findings], flush=True)
        return
    if not verification.findings:
        return
    table = Table("what", "where", "detail")
    for finding in verification.findings:
        table.add_row(finding.what, Text(visible(finding.where)), Text(visible(finding.detail)))
    Console(file=sys.stdout, highlight=False).print(table)


def _not_decoded(verification: Verification) -> str:
    """Of which aggregates, and how many streams of each; those with most of them, where they are many."""
    of = verification.not_decoded
    shown = [f"{visible(name)} ({many(streams, 'stream')})" for name, streams in of.most_common(_SHOWN)]
    more = len(of) - len(shown)
    return ", ".join(shown) + (f" and {many(more, 'other aggregate')}" if more else "")


def _summary(verification: Verification, url: str, app: App | None) -> str:
    looked_at = (
        f"{url}: {many(verification.events, 'event')} in {many(len(verification.streams), 'stream')}, "
        f"{many(verification.checkpoints, 'checkpoint')}"
    )
    if app is None:
        looked_at += "; nothing was decoded (name the App for that)"
    elif verification.not_decoded:
        looked_at += f"; not decoded: {_not_decoded(verification)}, for this App does not have them"
    if not verification.found:
        return f"{looked_at}: all is well"
    more = verification.found - len(verification.findings)
    return f"{looked_at}: {many(verification.found, 'finding')}" + (
        f", {more:,} of them not listed" if more else ""
    )
