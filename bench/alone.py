"""One measurement, in this process, which loads nothing but what its family of rows needs.

`python -m bench.alone MODULE ROW NUMBER SIZE FOLDER` writes its sample to stdout. With `stock` in the place of the number
it fills the store that the contestants of the row read, says where that is, and drops it at the end of stdin.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import msgspec

from bench.rows.row import Contestant, Row
from bench.sample import Sample, Size
from bench.servers import trust_own_servers
from bench.stock import Stock

FILL: Final = "stock"


def main(arguments: Sequence[str]) -> None:
    """Measure, or fill."""
    trust_own_servers()
    module, name, what, told, folder = arguments
    rows: tuple[Row, ...] = import_module(module).ROWS
    row = {row.name: row for row in rows}[name]
    size = msgspec.json.decode(told, type=Size)
    if what == FILL:
        assert row.stock is not None
        _fill(row.stock, size, Path(folder))
    else:
        _measure(row.contestants[int(what)], size, Path(folder))


def _fill(stock: Stock, size: Size, folder: Path) -> None:
    with suppress(KeyboardInterrupt), stock.place.url(folder) as url:
        asyncio.run(stock.fill(url, size))
        print(url, flush=True)
        sys.stdin.read()


def _measure(contestant: Contestant, size: Size, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        began, began_cpu = perf_counter(), process_time()
        sample = contestant.measure(size, Path(own))
        cpu = (process_time() - began_cpu) / (perf_counter() - began)
    # Where the work was done by a program of its own, that one knows.
    sample = Sample(sample.value, {"cpu": cpu, **sample.facts})
    sys.stdout.write(msgspec.json.encode(sample).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
