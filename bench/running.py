"""Each measurement in a process of its own, so that none inherits another's heap; contestants alternate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from bench.alone import FILL
from bench.families import module_of
from bench.rows import Row
from bench.sample import MeasurementError, Sample, Size
from bench.servers import Server, running
from bench.stock import STOCK

_PROJECT: Final = Path(__file__).parent.parent
_PATIENCE: Final = 1_800.0
"""Seconds after which a measurement is taken for one that never ends; ten million events have to be stored in it."""

Samples = dict[str, list[Sample]]
"""Of the contestants of a row, in the order of the repetitions."""


class MeasuredRow(msgspec.Struct, frozen=True):
    """A row and everything that was measured for it."""

    row: Row
    samples: Samples
    failure: str = ""
    """Why it ended before its time."""
    missing: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Contestants that this machine has not, and why."""


def run_rows(
    rows: Sequence[Row],
    size: Size,
    repetitions: int,
    folder: Path,
    progress: Callable[[str], None],
    *,
    is_same_for_all: bool = False,
) -> Iterator[MeasuredRow]:
    """Measure the rows one after the other; `progress` gets a line for each measurement.

    There are so many repetitions where the row has no number of its own, or `is_same_for_all`, and one less of contestants
    whom no goal is about.

    Where a measurement fails, its row ends there, with the repetitions that were complete, and the next row comes.
    Servers run for as long as rows that follow each other need them.
    """
    missing = {row.name: _missing(row, progress) for row in rows}
    rounds = {row.name: _rounds(row, missing[row.name], repetitions, is_same_for_all) for row in rows}
    total = sum(sum(each.values()) for each in rounds.values())
    pace = _Pace(total, progress)
    for servers, group in groupby(rows, key=_servers):
        some = list(group)
        try:
            with running(servers):
                while some:
                    row = some.pop(0)
                    yield _run_row(row, missing[row.name], size, rounds[row.name], folder, pace)
        except MeasurementError as error:
            yield from (MeasuredRow(row, {}, str(error), missing[row.name]) for row in some)


def _servers(row: Row) -> frozenset[Server]:
    return frozenset(server for server in (row.server, row.also) if server is not None)


def _rounds(row: Row, missing: Container[str], repetitions: int, is_same_for_all: bool) -> dict[int, int]:
    """In how many rounds, by their numbers, those contestants are measured that are there."""
    if row.repetitions == 1 or (row.repetitions is not None and not is_same_for_all):
        most = least = row.repetitions
    else:
        most, least = repetitions, repetitions if is_same_for_all else max(1, repetitions - 1)
    return {
        number: most if row.is_aimed_at(each.name) else least
        for number, each in enumerate(row.contestants)
        if each.name not in missing
    }


def _missing(row: Row, progress: Callable[[str], None]) -> dict[str, str]:
    """Get ready what its contestants need; those that cannot be had, and why."""
    asked = {each.name: each.prepare(progress) for each in row.contestants if each.prepare is not None}
    return {name: why for name, why in asked.items() if why}


def _run_row(
    row: Row, missing: dict[str, str], size: Size, rounds: dict[int, int], folder: Path, pace: _Pace
) -> MeasuredRow:
    complete: list[dict[int, Sample]] = []
    failure = ""
    try:
        with _stocked(row, size, folder):
            for repetition in range(max(rounds.values(), default=0)):
                found: dict[int, Sample] = {}
                for number in _order(
                    [one for one, count in rounds.items() if repetition < count], repetition
                ):
                    found[number] = run_alone(row, number, size, folder)
                    pace.done(
                        f"{row.title}: {row.contestants[number].name}: {found[number].value:,.6g} {row.unit}"
                    )
                complete.append(found)
    except MeasurementError as error:
        failure = str(error)
        pace.failed(failure)
    samples = {
        row.contestants[number].name: [found[number] for found in complete if number in found]
        for number in rounds
    }
    return MeasuredRow(row, samples if complete else {}, failure, missing)


@contextmanager
def _stocked(row: Row, size: Size, folder: Path) -> Generator[None]:
    """What its contestants read is there."""
    if row.stock is None:
        yield
        return
    command = _command(row, FILL, size, folder)
    with subprocess.Popen(
        command, cwd=_PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as filling:
        assert filling.stdout is not None
        try:
            url = filling.stdout.readline().strip()
            if not url:
                raise MeasurementError(f"{row.title}: its store could not be filled")
            os.environ[STOCK] = url
            yield
        except KeyboardInterrupt:
            # Nobody waits until it is filled, and it is dropped all the same.
            filling.send_signal(signal.SIGINT)
            raise
        finally:
            os.environ.pop(STOCK, None)


def _order(numbers: list[int], repetition: int) -> list[int]:
    """There and back again: who comes first has no advantage over the run."""
    return numbers if repetition % 2 == 0 else numbers[::-1]


class _Pace:
    """How far a run is, and how long the rest will take if it goes on like this."""

    def __init__(self, total: int, progress: Callable[[str], None]) -> None:
        self._total = total
        self._done = 0
        self._began = perf_counter()
        self._progress = progress

    def done(self, what: str) -> None:
        self._done += 1
        left = (perf_counter() - self._began) / self._done * (self._total - self._done)
        self._progress(f"[{self._done}/{self._total}, {_duration(left)} left] {what}")

    def failed(self, why: str) -> None:
        self._progress(f"[{self._done}/{self._total}] failed: {why}")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def run_alone(row: Row, number: int, size: Size, folder: Path) -> Sample:
    """One measurement in a fresh process; what it says on stderr is shown."""
    what = f"{row.title}: {row.contestants[number].name}"
    try:
        ended = subprocess.run(
            _command(row, str(number), size, folder),
            cwd=_PROJECT,
            check=False,
            stdout=subprocess.PIPE,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{what}: not done after {_PATIENCE / 60:.0f} minutes") from None
    if ended.returncode != 0:
        raise MeasurementError(f"{what}: ended with {ended.returncode}")
    return msgspec.json.decode(ended.stdout, type=Sample)


def _command(row: Row, what: str, size: Size, folder: Path) -> list[str]:
    arguments = [module_of(row), row.name, what, msgspec.json.encode(size).decode(), str(folder)]
    return [sys.executable, "-m", "bench.alone", *arguments]
