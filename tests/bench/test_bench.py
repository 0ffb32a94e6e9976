"""The harness runs, at sizes that say nothing, and nobody in it cheats."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventsourcing.sqlite import SQLiteFactory

from bench import peer_bank, peer_structs, running
from bench.__main__ import main
from bench.families import ROWS, row_named
from bench.peer_rates import FASTEST, AnyBank, require_durable, sqlite_settings
from bench.rows import Contestant, Measure, Row
from bench.rows.names import PEER, PEER_CACHED, PEER_PLAIN
from bench.rows.sqlite import RAW_INSERTS
from bench.running import MeasuredRow
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server
from bench.stock import STOCK
from bench.summary import Report, summarize
from rehydrate.testing.clock import until
from rehydrate.testing.plugin import MONGODB_URL, NATS_URL, POSTGRES_URL

TINY = Size(seconds=0.02, accounts=128, events=3, live=70, windows=2, log=2_500, most=600)


def _is_much_like_another(row: Row, contestant: Contestant) -> bool:
    """A cluster starts for each kind of use, and another setting of a peer runs the same lines: one shows that they do.

    Its recorders are not ours: what it does with snapshots, and in a burst, it does on any store.
    """
    if contestant.prepare is not None:
        return True  # Emmett: installing it takes seconds, and a network.
    if row.also is not None:
        return contestant not in row.contestants[:2]
    if row.name in {"snapshot-postgres", "cold-postgres"}:
        return contestant.name.startswith(PEER)
    return row.server is not None and contestant.name in {PEER_CACHED, PEER_PLAIN}


def _lines_of(measure: Measure) -> str:
    """Which code it runs, whatever the counts that it is given."""
    if not isinstance(measure, partial):
        return repr(measure)
    return repr(
        (measure.func, [each for each in measure.args if type(each) not in {int, float}], measure.keywords)
    )


def _contestants() -> list[Any]:
    seen: set[str] = set()
    found: list[Any] = []
    for row in ROWS:
        for each in row.contestants:
            lines = _lines_of(each.measure)
            is_slow = lines in seen or _is_much_like_another(row, each)
            seen.add(lines)
            name, marks = f"{row.name}: {each.name}", [pytest.mark.slow] if is_slow else []
            found.append(pytest.param(row, each, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("row", "contestant"), _contestants())
def test_every_contestant_measures_something(
    row: Row,
    contestant: Contestant,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if contestant.prepare is not None and (why := contestant.prepare(print)):
        pytest.skip(why)
    for server in (row.server, row.also):
        if server is not None:
            monkeypatch.setenv(server.value, _url_of(server, request))
    with _stocked(row, tmp_path) as url:
        monkeypatch.setenv(STOCK, url)
        sample = contestant.measure(TINY, tmp_path)
    assert sample.value > 0 or contestant.name.startswith("resident")


@pytest.fixture(autouse=True)
def _frozen() -> Iterator[None]:
    """A row of latencies undoes what tests/conftest.py did for all tests behind it; and most rows collect garbage."""
    yield
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@contextmanager
def _stocked(row: Row, folder: Path) -> Generator[str]:
    if row.stock is None:
        yield ""
        return
    with row.stock.place.url(folder) as url:
        asyncio.run(row.stock.fill(url, TINY))
        yield url


def _url_of(server: Server, request: pytest.FixtureRequest) -> str:
    """A server that the session shares; of NATS the three nodes."""
    match server:
        case Server.POSTGRES:
            url: str = request.getfixturevalue("postgres_server").url
        case Server.MONGODB:
            url = request.getfixturevalue("mongodb_server").url
        case Server.NATS:
            url = request.getfixturevalue("three_nats_url").rpartition("/")[0]
    return url


def test_servers_of_your_own_are_named_as_for_the_tests() -> None:
    assert [server.value for server in Server] == [POSTGRES_URL, MONGODB_URL, NATS_URL]


def test_a_measurement_loads_no_other_rows_than_those_of_its_family() -> None:
    code = "import sys, bench.alone, bench.rows.memory; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {name for name in run.stdout.split() if name.startswith("bench.rows.")} == {
        f"bench.rows.{name}" for name in ("memory", "emmett", "names", "row")
    }
    assert not {"pytest", "asyncpg", "pymongo", "nats"} & set(run.stdout.split())


def test_the_command_measures_in_processes_of_their_own_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.__main__.QUICK", TINY)
    files = ["--json", str(tmp_path / "report.json"), "--markdown", str(tmp_path / "report.md")]
    main(["--quick", "--only", "rehydrate-memory", *files, "--folder", str(tmp_path)])
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    (row,) = report.rows
    assert {figure.contestant: len(figure.samples) for figure in row.figures} == {
        "Rehydrate": 2,
        "eventsourcing": 2,
        "fold, decoded events": 2,
    }
    assert report.machine.fsync_ms > 0
    shown, progress = capsys.readouterr()
    assert "Rehydrate : eventsourcing" in shown
    assert "| Rehydrate : eventsourcing | " in (tmp_path / "report.md").read_text("utf-8")
    assert "[6/6, " in progress


@pytest.mark.parametrize("bank", [peer_bank.Bank, peer_structs.Bank], ids=["its own events", "Structs"])
def test_the_peer_stores_each_event_and_reads_it_back(bank: type[AnyBank], tmp_path: Path) -> None:
    with closing(bank(env={**FASTEST, **sqlite_settings(tmp_path)})) as app:
        require_durable(app)
        id = app.open_account(3)
        assert (app.deposit(id, 10), app.withdraw(id, 4)) == (4, 5)
        with pytest.raises(peer_bank.InsufficientFundsError):
            app.withdraw(id, 1_000)
    with closing(sqlite3.connect(tmp_path / "peer.db")) as connection:
        stored = connection.execute("SELECT topic, state FROM stored_events ORDER BY rowid").fetchall()
    assert [topic.rpartition(".")[2] for topic, _ in stored] == ["Created", *["Deposited"] * 3, "Withdrawn"]
    assert [msgspec.json.decode(state).get("amount") for _, state in stored] == [None, 1, 1, 10, 4]
    with closing(bank(env=sqlite_settings(tmp_path))) as app:
        account: peer_bank.Account | peer_structs.Account = app.repository.get(id)
        assert (account.balance, account.changes) == (8, 4)


def test_the_peer_is_refused_where_its_commits_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    with closing(peer_bank.Bank(env=sqlite_settings(tmp_path))) as app:
        assert isinstance(app.factory, SQLiteFactory)
        pool = app.factory.datastore.pool
        connection = pool.get_connection()
        connection.cursor().execute("PRAGMA synchronous = NORMAL")
        pool.put_connection(connection)
        with pytest.raises(MeasurementError, match="FULL"):
            require_durable(app)


def test_both_sides_of_the_row_on_sqlite_leave_their_events_in_the_file(tmp_path: Path) -> None:
    for contestant in row_named("sqlite-64").contestants:
        folder = tmp_path / contestant.name
        folder.mkdir()
        contestant.measure(TINY, folder)
        is_peer = contestant.name.startswith("eventsourcing")
        file = "peer.db" if is_peer else "plain.db" if contestant.name == RAW_INSERTS else "bank.db"
        table = "stored_events" if is_peer else "events"
        with closing(sqlite3.connect(folder / file)) as connection:
            (stored,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert stored > TINY.accounts * TINY.events


def test_who_stored_less_than_was_answered_is_refused() -> None:
    with pytest.raises(MeasurementError, match="holds 9 events and must hold 10"):
        require(stored=9, expected=10, what="somebody")


def test_a_ratio_is_of_measurements_of_the_same_repetition() -> None:
    row = row_named("rehydrate-memory")
    rates = {
        "Rehydrate": [100.0, 300.0, 90.0],
        "eventsourcing": [10.0, 20.0, 30.0],
        "fold, decoded events": [1.0] * 3,
    }
    samples = {name: [Sample(value, {}) for value in values] for name, values in rates.items()}
    beside_the_peer, _ = summarize(MeasuredRow(row, samples)).comparisons
    assert beside_the_peer.value.median == 10
    assert (beside_the_peer.value.least, beside_the_peer.value.most) == (3, 15)
    assert beside_the_peer.is_met


def test_what_is_smaller_than_its_name_says_so(tmp_path: Path) -> None:
    row = row_named("events-memory")
    small, cut = (row.contestants[number].measure(TINY, tmp_path).facts for number in (0, -1))
    assert cut["cut to"] == TINY.most
    assert ("cut to" in small) == (TINY.most < 1_000)


def test_contestants_alternate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[int] = []

    def measure(_row: object, number: int, _size: Size, _folder: Path) -> Sample:
        order.append(number)
        return Sample(1.0, {})

    monkeypatch.setattr(running, "run_alone", measure)
    list(running.run_rows([row_named("rehydrate-memory")], TINY, 3, tmp_path, lambda _: None))
    assert order == [0, 1, 2, 2, 1, 0, 0, 1, 2]


def test_the_store_that_a_row_reads_is_filled_before_its_first_measurement_and_gone_after_the_last(
    tmp_path: Path,
) -> None:
    (measured,) = running.run_rows([row_named("sqlite-read")], TINY, 1, tmp_path, lambda _: None)
    assert [sample.facts["events"] for (sample,) in measured.samples.values()] == [19 * 128] * 2
    assert list(tmp_path.iterdir()) == []
    (measured,) = running.run_rows([row_named("sqlite-read")], TINY, 1, tmp_path / "nowhere", lambda _: None)
    assert measured.failure == "SQLite, reading the log: its store could not be filled"


def test_a_row_that_fails_is_shown_as_failed_and_the_next_one_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Counter[str]()

    def measure(row: Row, _number: int, _size: Size, _folder: Path) -> Sample:
        done[row.name] += 1
        # In the second round, so that one is complete.
        if row.name == "sqlite-1" and done[row.name] > len(row.contestants):
            raise MeasurementError("it broke")
        return Sample(1.0, {})

    monkeypatch.setattr(running, "run_alone", measure)
    rows = ["--only", "sqlite-1", "--only", "ticker"]
    with pytest.raises(SystemExit, match="1 of 2 rows failed: it broke"):
        main(["--quick", *rows, "--folder", str(tmp_path), "--json", str(tmp_path / "report.json")])
    shown = capsys.readouterr().out
    assert "failed: it broke" in shown
    assert "Delay of a 10 ms ticker" in shown
    broken, ticker = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report).rows
    assert (broken.failure, broken.repetitions) == ("it broke", 1)
    assert (ticker.failure, ticker.repetitions) == ("", 2)


def test_who_stops_a_run_keeps_the_rows_that_were_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(row: Row, _number: int, _size: Size, _folder: Path) -> Sample:
        if row.name == "ticker":
            raise KeyboardInterrupt
        return Sample(1.0, {})

    monkeypatch.setattr(running, "run_alone", measure)
    with pytest.raises(SystemExit) as ended:
        main(["--quick", "--only", "sqlite-1", "--only", "ticker", "--folder", str(tmp_path)])
    assert ended.value.code == 130
    shown, progress = capsys.readouterr()
    assert "SQLite, 1 caller" in shown
    assert "stopped after 1 of 2 rows" in progress


def test_runs_on_one_machine_can_be_joined_and_the_last_measurement_of_a_row_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = iter(range(1, 100))

    def measure(*_: object) -> Sample:
        return Sample(float(next(values)), {})

    monkeypatch.setattr(running, "run_alone", measure)
    files = [str(tmp_path / name) for name in ("one.json", "two.json", "both.json")]
    once = ["--quick", "--repetitions", "1", "--folder", str(tmp_path)]
    main([*once, "--only", "ticker", "--only", "sqlite-1", "--json", files[0]])
    main([*once, "--only", "ticker", "--json", files[1]])
    main(["--from", files[0], "--from", files[1], "--json", files[2]])
    sqlite, ticker = msgspec.json.decode(Path(files[2]).read_bytes(), type=Report).rows
    assert [figure.value.median for figure in sqlite.figures] == [4, 5, 6]
    assert [figure.value.median for figure in ticker.figures] == [7, 8, 9]
    main([*once, "--seconds", "9", "--only", "ticker", "--json", files[1]])
    capsys.readouterr()
    main(["--from", files[0], "--from", files[1], "--json", files[2]])
    assert " to 9 s, where" in capsys.readouterr().out
    main(["--from", files[2], "--from", files[0]])
    assert " to 9 s, where" in capsys.readouterr().out, "of a joined one all that was joined counts"
    main([*once[1:], "--only", "ticker", "--json", files[1]])
    with pytest.raises(SystemExit, match="not measured on the same machine"):
        main(["--from", files[0], "--from", files[1]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "memory-10"], "there is no row 'memory-10': did you mean memory-100"),
        (["--only", "what"], "there is no row 'what': --list shows them all"),
        (["--repetitions", "0"], "'0' is not a number of repetitions"),
        (["--seconds", "-1"], "'-1' is not a number of seconds"),
        (["--quick", "--long"], "not allowed with"),
        (["--json", "nowhere/report.json"], "nowhere/report.json cannot be written"),
        (["--folder", "nowhere"], "nowhere is no folder"),
        (["--plots", "pyproject.toml"], "pyproject.toml is no folder"),
        (["--from", "nowhere.json"], "nowhere.json"),
        (["--from", "pyproject.toml"], "pyproject.toml is not what --json wrote"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_before_anything_is_measured(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    sentence = capsys.readouterr().err or str(ended.value)
    assert says in sentence
    assert sentence.startswith("python -m bench: ")
    assert len(sentence.strip().splitlines()) == 1


def test_the_quick_run_is_a_subset_and_the_long_one_is_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, list[str]] = {}

    def measure(mode: str, rows: Sequence[Row], *_: object, **__: object) -> Iterator[MeasuredRow]:
        asked[mode] = [row.name for row in rows]
        yield from ()

    for mode in ("--quick", "", "--long"):
        monkeypatch.setattr("bench.__main__.run_rows", partial(measure, mode))
        main([mode] if mode else [])
    assert set(asked["--quick"]) < set(asked[""]) <= set(asked["--long"]) == {row.name for row in ROWS}
    capsys.readouterr()
    main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.name for row in ROWS]


def test_no_name_of_a_row_or_of_a_contestant_is_there_twice() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        names = {contestant.name for contestant in row.contestants}
        assert len(names) == len(row.contestants), row.name
        assert names >= {name for ratio in row.ratios for name in (ratio.of, ratio.to)} | set(row.at_most)


def test_goals_and_some_rows_are_repeated_more_often_than_the_rest_unless_somebody_asks_for_a_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = Counter[str]()

    def measure(row: Row, number: int, _size: Size, _folder: Path) -> Sample:
        asked[row.contestants[number].name] += 1
        return Sample(float(asked.total()), {})

    monkeypatch.setattr(running, "run_alone", measure)

    def repetitions(name: str, *, is_same_for_all: bool) -> list[int]:
        asked.clear()
        row = row_named(name)
        (measured,) = running.run_rows(
            [row], TINY, 3, tmp_path, lambda _: None, is_same_for_all=is_same_for_all
        )
        counts = [len(samples) for samples in measured.samples.values()]
        assert counts == [asked[each.name] for each in row.contestants]
        assert summarize(measured).repetitions == max(counts)
        return counts

    assert repetitions("ticker", is_same_for_all=False) == [2, 2, 2]
    assert repetitions("sqlite-64", is_same_for_all=False) == [3, 3, 3, 3, 2, 2, 2]
    assert repetitions("events-memory", is_same_for_all=False) == [5, 5, 5]
    assert set(repetitions("live", is_same_for_all=False)) == {1}
    assert repetitions("sqlite-64", is_same_for_all=True) == [3] * 7
    assert repetitions("events-memory", is_same_for_all=True) == [3, 3, 3]
    assert set(repetitions("live", is_same_for_all=True)) == {1}


@pytest.mark.parametrize("row", ["sqlite-1", "sqlite-read"])
async def test_a_run_that_is_killed_says_what_it_has_and_leaves_no_measurement_behind(
    row: str, tmp_path: Path
) -> None:
    arguments = ["--quick", "--only", row, "--seconds", "600", "--folder", str(tmp_path)]
    run = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    await until(lambda: any(tmp_path.glob("*/*/bank.db")))
    run.terminate()
    _, told = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "stopped after 0 of 1 rows" in told
    assert list(tmp_path.iterdir()) == []
