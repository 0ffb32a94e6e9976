"""Each measurement in a process of its own, so that none inherits another's heap; contestants alternate.

`python -m bench.running ROW NUMBER SIZE FOLDER` is one measurement; its sample goes to stdout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import msgspec

from bench.rows import ROWS, Row
from bench.sample import MeasurementError, Sample, Size
from bench.servers import running

_PROJECT: Final = Path(__file__).parent.parent

Samples = dict[str, list[Sample]]
"""Of the contestants of a row, in the order of the repetitions."""


class MeasuredRow(msgspec.Struct, frozen=True):
    """A row and everything that was measured for it."""

    row: Row
    samples: Samples


def run_rows(
    rows: Sequence[Row], size: Size, repetitions: int, folder: Path, progress: Callable[[str], None]
) -> Iterator[MeasuredRow]:
    """Measure the rows one after the other; `progress` gets a line for each measurement.

    Raises `MeasurementError` at the first measurement that fails.
    """
    total = sum(len(row.contestants) * min(repetitions, row.repetitions or repetitions) for row in rows)
    done = 0
    with running({server for row in rows for server in (row.server, row.also) if server is not None}):
        for row in rows:
            samples: Samples = {contestant.name: [] for contestant in row.contestants}
            for repetition in range(min(repetitions, row.repetitions or repetitions)):
                for number in _order(len(row.contestants), repetition):
                    contestant = row.contestants[number]
                    sample = run_alone(row, number, size, folder)
                    samples[contestant.name].append(sample)
                    done += 1
                    progress(
                        f"[{done}/{total}] {row.title}: {contestant.name}: {sample.value:,.6g} {row.unit}"
                    )
            yield MeasuredRow(row, samples)


def _order(contestants: int, repetition: int) -> list[int]:
    """There and back again: who comes first has no advantage over the run."""
    order = list(range(contestants))
    return order if repetition % 2 == 0 else order[::-1]


def run_alone(row: Row, number: int, size: Size, folder: Path) -> Sample:
    """One measurement in a fresh process; what it says on stderr is shown."""
    arguments = [row.name, str(number), msgspec.json.encode(size).decode(), str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.running", *arguments],
        cwd=_PROJECT,
        check=False,
        stdout=subprocess.PIPE,
    )
    if ended.returncode != 0:
        raise MeasurementError(f"{row.title}: {row.contestants[number].name}: ended with {ended.returncode}")
    return msgspec.json.decode(ended.stdout, type=Sample)


def row_named(name: str) -> Row:
    """Raises `KeyError` where there is none."""
    return {row.name: row for row in ROWS}[name]


def main(arguments: Sequence[str]) -> None:
    """One measurement, in this process."""
    name, number, size, folder = arguments
    contestant = row_named(name).contestants[int(number)]
    with tempfile.TemporaryDirectory(dir=folder) as own:
        began, began_cpu = perf_counter(), process_time()
        sample = contestant.measure(msgspec.json.decode(size, type=Size), Path(own))
        cpu = (process_time() - began_cpu) / (perf_counter() - began)
    sample = Sample(sample.value, {**sample.facts, "cpu": cpu})
    sys.stdout.write(msgspec.json.encode(sample).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
