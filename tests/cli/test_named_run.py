"""`rehydrate run --run NAME`: the same call goes on where the last one ended, and stores nothing twice."""

from __future__ import annotations

import asyncio
import io
import json
from asyncio import to_thread
from collections.abc import Sequence
from pathlib import Path

import pytest

from rehydrate import RehydrateError, StoreUnavailableError, open_store
from rehydrate.cli.run.progress import FORMAT, MAX_FAILED, take_run
from rehydrate.cli.run.runs import NamedRun
from rehydrate.cli.run.session import Options, Streams, run_lines
from rehydrate.clock import SystemClock
from rehydrate.store.port import NewEvent, Store, ViewChange
from rehydrate.testing.clock import until
from rehydrate.testing.faults import FaultyStore, Hang, LoseAnswer, Refuse, Script
from tests.bank import app
from tests.cli.simulation import mixed_lines, simulate, stored_in
from tests.cli.terminal import BANK, Ended, as_input, deposit, line, typed, withdraw


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bank.db"


def run(store: str, *lines: str, name: str = "import", options: tuple[str, ...] = ()) -> Ended:
    return typed("run", BANK, "--store", store, "--run", name, *options, stdin=as_input(lines))


def test_a_finished_run_says_so_and_does_nothing(store: str) -> None:
    lines = [deposit("ada", 1), withdraw("bob", 1), deposit("ada", 2)]
    first = run(store, *lines)
    assert first.code == 0
    assert "run 'import' is finished: 3 lines" in first.stderr
    again = run(store, *lines)
    assert (again.code, again.stdout) == (0, "")
    assert (
        again.stderr
        == "rehydrate: run 'import' was finished before, all its 3 lines: there was nothing to do\n"
    )
    assert stored_in(store) == {"ada": [("Deposited", 1), ("Deposited", 2)]}


def test_another_name_is_another_run(store: str) -> None:
    run(store, deposit("ada", 1), name="one")
    run(store, deposit("ada", 1), name="two")
    assert stored_in(store) == {"ada": [("Deposited", 1)] * 2}


def test_lines_that_were_added_at_the_end_are_run(store: str) -> None:
    run(store, deposit("ada", 1))
    ended = run(store, deposit("ada", 1), deposit("ada", 2))
    assert [answer["line"] for answer in ended.answers] == [2]
    assert stored_in(store) == {"ada": [("Deposited", 1), ("Deposited", 2)]}


@pytest.mark.parametrize(
    "changed",
    [
        [deposit("ada", 1), deposit("ada", 7), deposit("ada", 3)],
        [deposit("ada", 2), deposit("ada", 1), deposit("ada", 3)],
        ["", deposit("ada", 1), deposit("ada", 2), deposit("ada", 3)],
    ],
    ids=["changed", "swapped", "moved"],
)
def test_an_earlier_line_that_is_not_what_it_was_is_an_error_and_nothing_is_sent(
    store: str, changed: list[str]
) -> None:
    run(store, deposit("ada", 1), deposit("ada", 2))
    ended = run(store, *changed)
    assert (ended.code, ended.stdout) == (1, "")
    assert (
        "run 'import' has finished the lines before line 3, and one of them has changed since" in ended.stderr
    )
    assert stored_in(store) == {"ada": [("Deposited", 1), ("Deposited", 2)]}


def test_an_input_that_has_become_shorter_is_an_error(store: str) -> None:
    run(store, deposit("ada", 1), deposit("ada", 2))
    ended = run(store, deposit("ada", 1))
    assert ended.code == 1
    assert "has finished 2 lines, and this input has only 1" in ended.stderr


def test_the_ending_of_lines_is_no_change(store: str) -> None:
    text = as_input([deposit("ada", 1), deposit("ada", 2)])
    typed("run", BANK, "--store", store, "--run", "import", stdin=text)
    ended = typed("run", BANK, "--store", store, "--run", "import", stdin=text.replace("\n", "\r\n").rstrip())
    assert "finished before" in ended.stderr


def test_a_line_that_failed_is_run_again_by_the_same_call_also_after_it_was_corrected(store: str) -> None:
    first = run(store, deposit("ada", 1), "nonsense", deposit("ada", 2), line("ada", "Crash", where="decide"))
    assert first.code == 1
    assert "is finished but for 2 failed lines: the same call runs them again" in first.stderr
    second = run(
        store, deposit("ada", 1), deposit("bob", 5), deposit("ada", 2), line("ada", "Crash", where="decide")
    )
    assert [answer["line"] for answer in second.answers] == [2, 4]
    assert second.code == 1
    third = run(store, deposit("ada", 1), deposit("bob", 5), deposit("ada", 2), deposit("ada", 3))
    assert [answer["line"] for answer in third.answers] == [4]
    assert third.code == 0
    assert stored_in(store) == {"ada": [("Deposited", n) for n in (1, 2, 3)], "bob": [("Deposited", 5)]}
    # A line that was corrected and has run is from then on one that must not change.
    assert run(store, deposit("ada", 1), deposit("bob", 6), deposit("ada", 2), deposit("ada", 3)).code == 1


def test_a_failed_line_of_a_wrong_input_is_not_run(store: str) -> None:
    run(store, "nonsense", deposit("ada", 2))
    ended = run(store, deposit("bob", 1), deposit("bob", 2))
    assert ended.code == 1
    assert stored_in(store) == {"ada": [("Deposited", 2)]}


def test_strict_leaves_the_run_at_the_line_that_failed(store: str) -> None:
    first = run(store, deposit("ada", 1), "nonsense", deposit("ada", 2), options=("--strict",))
    assert first.code == 1
    assert "is not finished: the same call goes on at line 2" in first.stderr
    second = run(store, deposit("ada", 1), withdraw("ada", 1), deposit("ada", 2), options=("--strict",))
    assert [answer["line"] for answer in second.answers] == [2, 3]
    assert second.code == 0


def test_a_run_of_which_too_much_fails_stops(store: str) -> None:
    ended = run(store, *["nonsense"] * (MAX_FAILED + 500))
    assert ended.code == 1
    assert "more than 1,000 of its lines have failed" in ended.stderr


def test_command_ids_come_from_the_name_and_the_line(store: str) -> None:
    run(store, deposit("ada", 1), deposit("ada", 2, command_id="mine"))
    events = typed("events", "bank_account-ada", "--store", store).answers
    assert [event["metadata"]["command_id"] for event in events] == ["run:import:1", "mine"]


@pytest.mark.parametrize("name", ["", "x" * 489, "a\0b"])
def test_a_name_that_cannot_be_part_of_an_id_is_refused(store: str, name: str) -> None:
    ended = run(store, deposit("ada", 1), name=name)
    assert (ended.code, ended.stdout) == (1, "")
    assert "this run name cannot be used" in ended.stderr


def test_a_name_may_be_any_other_text(store: str) -> None:
    for name in ("x" * 488, "é/ü 2024: the 'second'"):
        assert run(store, deposit("ada", 1), name=name).code == 0
        assert "finished before" in run(store, deposit("ada", 1), name=name).stderr


# ------------------------------------------------------------------------------------- calls that end before their time


def versions_of(store: str, *lines: str, name: str = "import") -> list[int]:
    return [answer["version"] for answer in run(store, *lines, name=name).answers]


class Broken:
    """A plan for a `FaultyStore`: after so many saves of a checkpoint every save is refused for good."""

    def __init__(self, saves: int) -> None:
        self._left = saves

    def __call__(self, method: str) -> Refuse | None:
        if method != "save_checkpoint":
            return None
        self._left -= 1
        return Refuse(retryable=False) if self._left < 0 else None


async def run_on(store: Store, lines: Sequence[str], *, concurrency: int = 256) -> tuple[int, list[int]]:
    """Run lines on an open store: the exit code, and the lines that were answered."""
    answers = io.BytesIO()
    options = Options(store, "import", strict=False, concurrency=concurrency)
    source = io.BytesIO(as_input(lines).encode())
    streams = Streams(source, None, answers.write, shares_terminal=False, is_typed=False)
    code = await run_lines(app, options, streams)
    return code, [json.loads(answer)["line"] for answer in answers.getvalue().splitlines()]


async def test_the_next_line_of_an_aggregate_is_not_sent_before_it_is_known_that_the_last_stored_nothing(
    store: str,
) -> None:
    lines = [withdraw("ada", 50), deposit("ada", 100), deposit("bob", 1)]
    healthy = await open_store(store)
    broken = FaultyStore(healthy, Broken(saves=1), SystemClock())
    code, answered = await run_on(broken, lines)
    assert (code, answered) == (1, [3])
    assert await healthy.versions(["bank_account-ada", "bank_account-bob"]) == [0, 1]
    # Had the deposit been stored, the withdrawal would now be decided on it.
    assert await run_on(healthy, lines) == (0, [1, 2, 3])
    await healthy.close()
    assert await to_thread(stored_in, store) == {"ada": [("Deposited", 100)], "bob": [("Deposited", 1)]}


async def test_what_cannot_be_saved_is_as_if_it_had_not_been_sent_also_if_it_comes_later(store: str) -> None:
    healthy = await open_store(store)
    broken = FaultyStore(healthy, Broken(saves=1), SystemClock())
    named = NamedRun(await take_run(broken, "import"), strict=False)
    said: list[RehydrateError] = []
    keeping = asyncio.ensure_future(named.keep(said.append))
    first = named.settle(1, b"{}")
    await until(first.cancelled)
    assert named.settle(2, b"{}").cancelled()
    assert isinstance(said[0], StoreUnavailableError)
    named.close()
    await keeping
    await healthy.close()


@pytest.mark.parametrize("saves", range(2, 7))
async def test_a_line_that_stored_nothing_is_answered_once_more_and_not_decided_once_more(
    store: str, saves: int
) -> None:
    lines = mixed_lines(300, 3, seed=saves)
    expected, _ = simulate(map(json.loads, lines))
    healthy = await open_store(store)
    code, first = await run_on(FaultyStore(healthy, Broken(saves), SystemClock()), lines)
    assert code == 1
    code, second = await run_on(healthy, lines)
    assert code == 0
    assert {*first, *second} == set(range(1, 301))
    assert await healthy.list_views("run:import", prefix="answer/") == []
    await healthy.close()
    assert await to_thread(stored_in, store) == expected


async def test_an_append_whose_answer_is_lost_is_repeated_and_stored_once(store: str) -> None:
    healthy = await open_store(store)
    script = Script()
    script.add("submit", LoseAnswer(), Refuse(), None, LoseAnswer())
    script.add("save_checkpoint", None, LoseAnswer(), Refuse())
    lines = [deposit("ada", 1), withdraw("ada", 5), deposit("ada", 2), deposit("ada", 3)]
    assert await run_on(FaultyStore(healthy, script, SystemClock()), lines) == (0, [1, 2, 3, 4])
    await healthy.close()
    assert await to_thread(stored_in, store) == {"ada": [("Deposited", n) for n in (1, 2, 3)]}


async def test_a_store_that_cannot_be_used_stops_the_run_and_the_same_call_goes_on(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy = await open_store(store)
    script = Script()
    script.add("submit", None, None, Refuse(retryable=False))
    lines = [deposit("ada", n) for n in range(1, 100)]
    assert await run_on(FaultyStore(healthy, script, SystemClock()), lines) == (1, [1, 2, 3])
    assert "is not finished: the same call goes on at line 3" in capsys.readouterr().err
    assert await run_on(healthy, lines) == (0, list(range(3, 100)))
    await healthy.close()
    assert await to_thread(stored_in, store) == {"ada": [("Deposited", n) for n in range(1, 100)]}


async def test_who_takes_a_run_over_keeps_all_that_the_earlier_holder_saved_until_then(store: str) -> None:
    healthy = await open_store(store)
    script = Script()
    slow = FaultyStore(healthy, script, SystemClock())
    earlier = await take_run(healthy, "import")
    # The later one has read the checkpoint, and is about to raise its epoch.
    script.add("save_checkpoint", Hang())
    later = asyncio.create_task(take_run(slow, "import"))
    await until(lambda: slow.hanging)
    earlier.first = 7
    await earlier.save([(9, b"{}")], [])
    slow.release()
    taken = await later
    assert (taken.first, taken.answers) == (7, {9: b"{}"})
    with pytest.raises(Exception, match="was taken over by a later call"):
        await earlier.save([], [])
    await healthy.close()


@pytest.mark.parametrize("ids", ["its own", "from the input"])
async def test_a_repeat_is_recognised_however_much_others_have_stored_meanwhile(store: str, ids: str) -> None:
    given = {"command_id": "mine"} if ids == "from the input" else {}
    lines = [deposit("ada", 1, **given)]
    opened = await open_store(store)
    # Stored, and the call ended before that was written down.
    assert (await run_on(FaultyStore(opened, Broken(saves=1), SystemClock()), lines))[0] == 1
    others = [NewEvent(f"e{n}", "Deposited", b'{"amount":2}') for n in range(1_500)]
    await opened.append("bank_account-ada", others, expected_version=1)
    assert await run_on(opened, lines) == (0, [1])
    assert await opened.versions(["bank_account-ada"]) == [1_501]
    await opened.close()


async def test_a_run_that_was_begun_on_another_log_does_not_go_on(store: str, tmp_path: Path) -> None:
    await to_thread(run, store, deposit("ada", 1), name="before")
    await to_thread(run, store, deposit("ada", 1))
    source, other = await open_store(store), await open_store(f"sqlite:///{tmp_path}/other.db")
    checkpoint = await source.load_checkpoint("run:import")
    assert checkpoint is not None
    await other.save_checkpoint(checkpoint, previous=None)
    await source.close()
    await other.close()
    ended = await to_thread(run, f"sqlite:///{tmp_path}/other.db", deposit("ada", 1))
    assert ended.code == 1
    assert "was begun on another log" in ended.stderr


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        (b"?", "cannot be read"),
        (
            b'{"format": %d, "first": 1, "digest": "0", "failed": []}' % (FORMAT + 1),
            "another version of Rehydrate",
        ),
    ],
)
async def test_progress_that_this_version_cannot_read_is_one_sentence(
    store: str, progress: bytes, sentence: str
) -> None:
    await to_thread(run, store, deposit("ada", 1))
    opened = await open_store(store)
    checkpoint = await opened.load_checkpoint("run:import")
    assert checkpoint is not None
    await opened.save_checkpoint(checkpoint, previous=checkpoint, views=[ViewChange("progress", progress)])
    await opened.close()
    ended = await to_thread(run, store, deposit("ada", 1))
    assert ended.code == 1
    assert sentence in ended.stderr


async def test_a_run_whose_checkpoint_was_reset_starts_over_and_still_stores_nothing_twice(
    store: str,
) -> None:
    lines = [deposit("ada", 1), deposit("ada", 2)]
    await to_thread(run, store, *lines)
    opened = await open_store(store)
    await opened.reset_checkpoint("run:import")
    await opened.close()
    assert await to_thread(versions_of, store, *lines) == [1, 2]
    assert await to_thread(stored_in, store) == {"ada": [("Deposited", 1), ("Deposited", 2)]}


async def test_repeats_of_ids_from_the_input_are_recognised_in_and_across_runs(store: str) -> None:
    lines = [deposit("ada", n, command_id=f"c{n}") for n in range(1, 50)]
    opened = await open_store(store)
    code, first = await run_on(FaultyStore(opened, Broken(saves=1), SystemClock()), lines)
    assert code == 1
    assert await run_on(opened, lines) == (0, list(range(1, 50)))
    await opened.close()
    assert await to_thread(versions_of, store, *lines, name="another") == list(range(1, 50))
    assert first
    assert await to_thread(stored_in, store) == {"ada": [("Deposited", n) for n in range(1, 50)]}
