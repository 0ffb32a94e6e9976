"""The figures of the documentation are written by the tool, whatever was measured."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bench.machine import Machine
from bench.report import markdown
from bench.rows.row import Contestant, Ratio, Row
from bench.running import MeasuredRow
from bench.sample import QUICK, Sample, Size
from bench.summary import Report, summarize

pytest.importorskip(
    "matplotlib", reason="the extra `bench` is not installed: make bench or make check does that"
)

from bench import page, plots

MACHINE = Machine("a processor", 2, "a system", "Python", "3", {}, "asyncio", 0.1, 0.0)


def _measure(_size: Size, _folder: Path) -> Sample:
    raise AssertionError("nothing is measured in here")


def _measured(row: Row, values: dict[str, tuple[float, ...]], **facts: float) -> MeasuredRow:
    return MeasuredRow(
        row, {name: [Sample(value, dict(facts)) for value in found] for name, found in values.items()}
    )


RATES = _measured(
    Row(
        name="memory-1",
        title="In memory, 1 caller",
        unit="commands/s",
        contestants=(Contestant("Rehydrate", _measure), Contestant("a peer", _measure)),
        ratios=(Ratio("Rehydrate", "a peer", 8), Ratio("a peer", "Rehydrate", 0.5)),
    ),
    {"Rehydrate": (90.0, 100.0, 110.0), "a peer": (10.0, 10.0, 10.0)},
)
GROWING = _measured(
    Row(
        name="grows",
        title="As a log grows",
        unit="commands/s",
        axis="stored events",
        contestants=(Contestant("1,000", _measure, at=1e3), Contestant("100,000", _measure, at=1e5)),
    ),
    {"1,000": (100.0,), "100,000": (90.0,)},
)
LATENCY = _measured(
    Row(
        name="late",
        title="At half of the limit",
        unit="ms",
        contestants=(Contestant("PostgreSQL", _measure),),
        at_most={"PostgreSQL": 10},
    ),
    {"PostgreSQL": (3.0,)},
    **{"p50": 1.0, "p99": 3.0, "p99.9": 5.0},
)
FAILED = MeasuredRow(
    Row(name="broke", title="What broke", unit="ms", contestants=(Contestant("somebody", _measure),)),
    {},
    "it broke",
)
FAMILIES = {"memory-1": "In memory", "grows": "Growth", "late": "Latency", "broke": "Latency"}


def _report(*rows: MeasuredRow) -> Report:
    return Report(
        machine=MACHINE,
        load_after=0.0,
        minutes=1.0,
        size=QUICK,
        repetitions=3,
        rows=[msgspec.structs.replace(summarize(row), family=FAMILIES[row.row.name]) for row in rows],
    )


def test_the_page_gets_tables_and_plots_between_its_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"# Before\n\n{page.BEGIN}\nold figures\n{page.END}\n\n## After\n", "utf-8")
    written = page.write(_report(RATES, GROWING, LATENCY, FAILED), file)
    text = file.read_text("utf-8")
    assert text.startswith("# Before\n")
    assert text.endswith("\n## After\n")
    assert "old figures" not in text
    assert "| Rehydrate : a peer | 10.00 x | 9.00 - 11.00 | >= 8 x | met |" in text
    assert "| a peer : Rehydrate | 0.10 x | 0.09 - 0.11 | >= 0.5 x | **missed** |" in text
    assert "failed: it broke" in text
    (not_measured,) = re.findall("Not measured in this run: (.*)", text)
    assert "`postgres-64`" in not_measured
    assert "`memory-1`" not in not_measured
    for name in ("goals", "rates", "growth", "latency-percentiles"):
        assert f"](figures/{name}.svg)" in text
        for kind, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
            picture = tmp_path / "figures" / f"{name}.{kind}"
            assert picture in written
            assert picture.read_bytes().startswith(begins)
    assert text.index("### Growth") < text.index("](figures/growth.svg)") < text.index("### Latency")
    assert "2 of 3 were met, 1 was missed. 1 row failed, and met nothing." in text
    assert text.index("| What broke | failed: it broke | | | | **failed** |") < text.index("### In memory")


def test_who_is_measured_in_fewer_rounds_is_compared_in_those_and_says_so() -> None:
    measured = _measured(
        Row(
            name="memory-1",
            title="In memory, 1 caller",
            unit="commands/s",
            contestants=(Contestant("Rehydrate", _measure), Contestant("beside it", _measure)),
            ratios=(Ratio("Rehydrate", "beside it"),),
        ),
        {"Rehydrate": (100.0, 200.0, 400.0), "beside it": (10.0, 10.0)},
    )
    text = markdown(_report(measured))
    assert "| Rehydrate : beside it | 15.00 x | 10.00 - 20.00 |  |  |" in text
    assert "| Rehydrate | 200 | 100 - 400 |  |  |" in text
    assert "| beside it | 10 | 10 - 10 |  | 2 times |" in text


def test_a_row_that_failed_in_a_later_round_has_met_nothing() -> None:
    for row, met in ((RATES, [True, False]), (LATENCY, [True])):
        for failure in ("", "it broke"):
            summary = summarize(msgspec.structs.replace(row, failure=failure))
            verdicts = [each.is_met for each in summary.figures] + [
                each.is_met for each in summary.comparisons
            ]
            assert [each for each in verdicts if each is not None] == [each and not failure for each in met]


def test_the_same_run_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        plots.draw(_report(RATES), tmp_path / folder)
    for name in ("goals.svg", "rates.svg", "goals.png", "rates.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    assert plots.draw(_report(FAILED), tmp_path) == []
    assert plots.draw(_report(), tmp_path) == []
    assert {path.name for plot in plots.draw(_report(RATES), tmp_path) for path in plot.files} == {
        "goals.svg",
        "goals.png",
        "rates.svg",
        "rates.png",
    }


def test_a_busy_machine_is_told_of() -> None:
    report = _report(RATES)
    busy = msgspec.structs.replace(report, machine=msgspec.structs.replace(MACHINE, load_before=2.5))
    told = "others were working, and the figures say little"
    assert told in markdown(busy)
    assert told not in markdown(report)


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text("# Written by hand\n", "utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        page.write(_report(RATES), file)
    assert file.read_text("utf-8") == "# Written by hand\n"
    assert list(tmp_path.iterdir()) == [file]


def test_the_documentation_has_the_marks() -> None:
    text = page.PAGE.read_text("utf-8")
    assert text.count(page.BEGIN) == text.count(page.END) == 1
