"""A part of the fault matrix that every test run plays; `make test-faults` plays all of it, and measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster.growth import GROWTH, grow
from tests.faults.cluster.network import Loopback, Namespaces, Network, why_no_namespaces
from tests.faults.cluster.required import need_namespaces
from tests.faults.cluster.rows import ROWS
from tests.faults.cluster.scene import Result, Row, play
from tests.faults.cluster.table import written_into

BY_NAME = {row.name: row for row in ROWS}


def hosts_for(row: Row, count: int = 3) -> Network:
    if row.needs_cables:
        need_namespaces()
    return Loopback(count) if why_no_namespaces() else Namespaces(count)


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    network = hosts_for(request.getfixturevalue("row"))
    yield network
    network.close()


def holds(result: Result) -> None:
    assert list(result.violations) == []
    assert list(result.unexpected) == []
    assert result.ours.acknowledged > 0


@pytest.mark.usefixtures("nats_server")
async def test_the_node_that_leads_the_events_is_killed_and_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    row = BY_NAME["leader-killed"]
    holds(await play(row, tmp_path / "site", Loopback(3), steady=50, beside=False))


@pytest.mark.slow  # Each takes half a minute; `make test-faults` plays the same, and makes the table.
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_a_fault_loses_and_doubles_nothing(row: Row, network: Network, tmp_path: Path) -> None:
    holds(await play(row, tmp_path / "site", network))


@pytest.mark.slow  # Two sites, one after the other.
async def test_growing_from_one_node_to_three_loses_and_doubles_nothing(tmp_path: Path) -> None:
    network = hosts_for(GROWTH, 4)
    try:
        holds(await grow(GROWTH, tmp_path / "site", network))
    finally:
        network.close()


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = "before\n<!-- written by make test-faults -->\nold\n<!-- to here -->\nafter"
    once = written_into(page, "new")
    assert once == "before\n<!-- written by make test-faults -->\n\nnew\n\n<!-- to here -->\nafter"
    assert written_into(once, "new") == once
