"""`make demo`: a bank on SQLite, then the history of a git repository through `rehydrate run`.

    python examples/demo.py                    this project's own history
    python examples/demo.py /path/to/repository   another one's

Everything is stored in a temporary folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.bank.account import Command, Deposit, InsufficientFunds, Withdraw  # noqa: E402
from examples.bank.app import app as bank_app  # noqa: E402
from examples.bank.app import bank_account  # noqa: E402
from examples.git_history.commands import lines_of  # noqa: E402
from examples.git_history.living import Difference, compare, living_files  # noqa: E402
from examples.git_history.repository import NoHistoryError, Repository  # noqa: E402
from rehydrate import Runtime, open_store  # noqa: E402

MOST_BARS = 12


@dataclass(frozen=True, slots=True)
class History:
    """What running a history came to."""

    commands: int
    rejected: int
    events: int
    files: int
    living: int
    days: Counter[date]
    seconds: float
    """From the first stored event to the last."""


def main() -> int:
    """Play both parts; 1 if the store and git do not agree."""
    parser = argparse.ArgumentParser(description="A bank on SQLite, then the history of a git repository.")
    parser.add_argument(
        "repository", nargs="?", type=Path, help="the repository to run; without it, this project's own"
    )
    asked: Path | None = parser.parse_args().repository
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")  # Bars and arrows are not in every encoding.
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="rehydrate-demo-") as folder:
        asyncio.run(play_bank(console, Path(folder)))
        return play_history(console, Path(folder), asked)


# ------------------------------------------------------------------------------------------------------- 1. the bank


async def play_bank(console: Console, folder: Path) -> None:
    """A deposit, a withdrawal and a refusal; then the same file once more."""
    url = f"sqlite:///{folder}/bank.db"
    headline(console, "1. A bank account on a SQLite file")
    async with bank_app.open(url) as bank:
        for command in (Deposit(100), Withdraw(10), Withdraw(1_000)):
            await try_command(console, bank, command)
        console.print("\n  its events")
        await show_events(console, bank)
        state = await bank.state(bank_account, "ada")
        console.print(f"\n  its state   {state}")
    console.print("\n  The file is closed, and opened again: nothing is in memory.")
    async with bank_app.open(url) as bank:
        state = await bank.state(bank_account, "ada")
        events = [envelope.event async for envelope in bank.events(bank_account, "ada")]
        console.print(f"  its state   {state}")
        console.print(f"  rebuilt from {' and '.join(map(str, events))}")
        before = await bank.state(bank_account, "ada", at=1)
        console.print(f"  and at version 1 it was {before}\n")


async def try_command(console: Console, bank: Runtime, command: Command) -> None:
    """Send a command and print the reply."""
    try:
        result = await bank.dispatch(bank_account, "ada", command)
    except InsufficientFunds as no:
        console.print(f"  {command!s:<21} → [red]refused[/red]: {no}")
    else:
        events = ", ".join(map(str, result.events))
        console.print(f"  {command!s:<21} → [green]version {result.version}[/green]: {events}")


async def show_events(console: Console, bank: Runtime) -> None:
    """The stored events of ada's account."""
    table = Table("version", "position", "recorded at (UTC)", "event", box=None)
    async for envelope in bank.events(bank_account, "ada"):
        recorded_at = f"{envelope.recorded_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(envelope.version), str(envelope.position), recorded_at, str(envelope.event))
    console.print(Padding.indent(table, 3))


# ---------------------------------------------------------------------------------------------------- 2. the history


def play_history(console: Console, folder: Path, asked: Path | None) -> int:
    """Feed a history to `rehydrate run`, and compare what lives with the tree of the head."""
    headline(console, "2. A git history: each file an aggregate, each change a command")
    try:
        if asked is None and not (ROOT / ".git").exists():
            raise NoHistoryError(f"{ROOT.name} is not a git repository")
        repository = Repository(asked or ROOT)
    except NoHistoryError as error:
        sentence = f"  Skipped: {error}; name another one: python examples/demo.py /path/to/repository\n"
        console.print(sentence, markup=False)
        return 0
    url = f"sqlite:///{folder}/history.db"
    began = time.monotonic()
    count = write_commands(repository, folder / "commands.jsonl")
    console.print(
        f"  git told of {count:,} changes up to commit {repository.head[:12]} in {time.monotonic() - began:.1f} s\n"
    )
    if not run_commands(console, folder, url):
        console.print("  [red]rehydrate run failed[/red]")
        return 1
    living = asyncio.run(living_files(url))
    difference = compare(living, repository.living())
    show_difference(console, difference, len(living))
    show_history(console, asyncio.run(read_history(folder / "results.jsonl", url, len(living))))
    return 1 if difference else 0


def write_commands(repository: Repository, to: Path) -> int:
    """Write the history as lines of commands, and return how many."""
    count = 0
    with to.open("wb") as lines:
        for change in repository.changes():
            for line in lines_of(change):
                lines.write(line)
                count += 1
    return count


def run_commands(console: Console, folder: Path, url: str) -> bool:
    """Run the commands, and then the same call once more: it finds that all is done."""
    arguments = ["run", "examples.git_history.app:app", "--run", "history", "--store", url]
    for results in ("results.jsonl", "results-of-the-second-call.jsonl"):
        console.print(f"  $ rehydrate {' '.join(arguments)} < {folder / 'commands.jsonl'}", style="bold")
        console.file.flush()
        with (folder / "commands.jsonl").open("rb") as lines, (folder / results).open("wb") as answers:
            ran = subprocess.run(
                [sys.executable, "-m", "rehydrate.cli", *arguments],
                stdin=lines, stdout=answers, stderr=None if sys.stderr.isatty() else subprocess.PIPE,
                cwd=ROOT, check=False,
            )  # fmt: skip
        if ran.stderr:
            said = ran.stderr.decode(errors="replace").splitlines()
            console.print(Text("\n".join(f"  {line}" for line in said)), soft_wrap=True)
        if ran.returncode:
            return False
    return True


def show_difference(console: Console, difference: Difference, living: int) -> None:
    """Say whether the living files are those of `git ls-tree`; if not, which are not."""
    if difference:
        console.print("\n  [red]The living files differ from git ls-tree -r HEAD[/red] (- git, + the store):")
        for line in difference.lines():
            console.print(Text(f"    {line}"), soft_wrap=True)
        console.print()
    else:
        console.print(
            f"\n  [green]{living:,} files live, with the modes and contents of git ls-tree -r HEAD.[/green]\n"
        )


# --------------------------------------------------------------------------------------------------- 3. what it came to


class _Answer(msgspec.Struct):
    """What the demo reads of a line of results."""

    rejection: object = None


class _Dated(msgspec.Struct):
    """What the demo reads of an event."""

    at: datetime


async def read_history(results: Path, url: str, living: int) -> History:
    """Count what is stored, and what was answered."""
    with results.open("rb") as lines:
        answers = [msgspec.json.decode(line, type=_Answer) for line in lines]
    store = await open_store(url)
    days: Counter[date] = Counter()
    recorded: list[int] = []
    files = 0
    after = 0
    while True:
        page = await store.read_all(after=after)
        for event in page.events:
            days[msgspec.json.decode(event.data, type=_Dated).at.date()] += 1
            recorded.append(event.recorded_at)
            files += event.version == 1
        after = page.position
        if page.is_last:
            break
    await store.close()
    seconds = (recorded[-1] - recorded[0]) / 1e6 if recorded else 0.0
    rejected = sum(answer.rejection is not None for answer in answers)
    return History(len(answers), rejected, len(recorded), files, living, days, seconds)


def show_history(console: Console, history: History) -> None:
    """The table and the chart."""
    headline(console, "3. What it came to")
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for count, what in (
        (history.commands, "commands, one line each"),
        (history.rejected, "rejected"),
        (history.events, "events stored, each durable before its answer"),
        (history.files, "paths that ever were, each an aggregate with a stream of its own"),
        (history.living, "of them alive at the end"),
    ):
        table.add_row(f"{count:,}", what)
    if history.seconds:
        table.add_row(
            f"{history.events / history.seconds:,.0f}", "events per second, from the first to the last"
        )
    console.print(Padding.indent(table, 1))
    unit, bars = in_periods(history.days)
    if bars:
        console.print(f"\n  events per {unit} of the commits' dates\n")
        show_bars(console, bars)
    console.print()


def in_periods(days: Counter[date]) -> tuple[str, list[tuple[str, int]]]:
    """Events by day, or by the shortest period that makes few enough bars; the newest last."""
    for unit, form in (("day", "%Y-%m-%d"), ("month", "%Y-%m"), ("year", "%Y")):
        periods: Counter[str] = Counter()
        for day, count in days.items():
            periods[day.strftime(form)] += count
        if len(periods) <= MOST_BARS:
            return unit, sorted(periods.items())
    return "year", sorted(periods.items())[-MOST_BARS:]


def show_bars(console: Console, bars: Sequence[tuple[str, int]]) -> None:
    """A bar for each period, as wide as the terminal allows."""
    most = max(count for _, count in bars)
    room = max(10, min(console.width, 100) - 26)
    for label, count in bars:
        console.print(f"  {label:<10}  {count:>9,}  [cyan]{'█' * max(1, round(room * count / most))}[/cyan]")


def headline(console: Console, text: str) -> None:
    """Where a part begins."""
    console.print(f"[bold]{text}[/bold]\n")


if __name__ == "__main__":
    sys.exit(main())
