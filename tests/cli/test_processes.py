"""`rehydrate run` as a process: killed, interrupted, taken over, and left without a reader."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.simulation import mixed_lines, simulate, stored_in
from tests.cli.terminal import BANK, HANG_LIMIT, as_input, deposit, line, process, started, typed, withdraw

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bank.db"


def begun(store: str, *options: str) -> subprocess.Popen[bytes]:
    return started("run", BANK, "--store", store, *options)


def answers_of(running: subprocess.Popen[bytes], count: int) -> list[dict[str, Any]]:
    """The next answers, as soon as they are there; fewer if the process ends before."""
    assert running.stdout is not None
    lines = [running.stdout.readline() for _ in range(count)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def feed(running: subprocess.Popen[bytes], *lines: str) -> None:
    assert running.stdin is not None
    running.stdin.write(as_input(lines).encode())
    running.stdin.flush()


def ended(running: subprocess.Popen[bytes]) -> tuple[int, list[dict[str, Any]], str]:
    """Close its stdin and wait: code, the rest of the answers, what it said."""
    stdout, stderr = running.communicate(timeout=HANG_LIMIT)
    return running.returncode, [json.loads(line) for line in stdout.splitlines()], stderr.decode()


@posix_only
def test_a_run_that_is_killed_again_and_again_stores_every_command_once_and_in_order(store: str) -> None:
    chance = random.Random(20)
    lines = mixed_lines(1_400, 30, seed=20)
    expected, accepted = simulate(map(json.loads, lines))
    answered: dict[int, dict[str, Any]] = {}
    known = 0
    while known < len(lines) - 300:
        # It is given a part of the input, and killed while the last lines of that are under way.
        given = known + chance.randrange(100, 400)
        with begun(store, "--run", "import") as running:
            feed(running, *lines[:given])
            while known < given - chance.randrange(1, 90):
                (answer,) = answers_of(running, 1)
                note(answered, answer)
                known = max(known, answer["line"])
            running.kill()
            # What it wrote before it died may be finished for good, and is then not answered again.
            for answer in answers_of(running, len(lines)):
                note(answered, answer)
    last = process("run", BANK, "--store", store, "--run", "import", stdin=as_input(lines))
    assert last.code == 0
    for answer in last.answers:
        note(answered, answer)
    assert stored_in(store) == expected
    assert ["rejection" not in answered[n] for n in range(1, len(lines) + 1)] == accepted


def note(answered: dict[int, dict[str, Any]], answer: dict[str, Any]) -> None:
    """An answer that was given once is the answer, also where it is given again."""
    assert answered.setdefault(answer["line"], answer) == answer


@posix_only
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_a_run_in_order_and_the_same_call_goes_on(
    store: str, number: signal.Signals, code: int
) -> None:
    lines = [deposit(f"a{n % 3}", n) if n % 4 else withdraw("b", n) for n in range(1, 101)]
    running = begun(store, "--run", "import")
    feed(running, *lines[:50])
    assert [answer["line"] for answer in answers_of(running, 50)] == list(range(1, 51))
    running.send_signal(number)
    # Its stdin is still open: it must not wait for that.
    assert running.wait(HANG_LIMIT) == code
    _, rest, said = ended(running)
    assert rest == []
    assert "interrupted" in said
    assert "run 'import' is not finished: the same call goes on at line 51" in said
    assert "Traceback" not in said
    again = process("run", BANK, "--store", store, "--run", "import", stdin=as_input(lines))
    assert again.code == 0
    assert [answer["line"] for answer in again.answers] == list(range(51, 101))
    assert stored_in(store) == simulate(map(json.loads, lines))[0]


@posix_only
def test_an_interrupt_repeated_ends_a_run_that_cannot_end_in_order(store: str) -> None:
    running = begun(store)
    # More answers than the pipe holds, and nobody reads them.
    feed(running, *[deposit(f"a{n % 50}", n) for n in range(2_000)])
    while sum(stream["version"] for stream in typed("streams", "--store", store).answers) < 2_000:
        pass
    while running.poll() is None:
        running.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            running.wait(0.1)
    assert running.returncode == 130
    with running:
        pass


@posix_only
def test_an_answer_comes_while_the_input_is_still_open(store: str) -> None:
    running = begun(store)
    feed(running, deposit("ada", 1))
    assert answers_of(running, 1)[0]["version"] == 1
    feed(running, deposit("ada", 2))
    assert answers_of(running, 1)[0]["version"] == 2
    assert ended(running)[0] == 0


@posix_only
def test_a_later_call_with_the_name_takes_over_and_the_earlier_one_stops_with_one_sentence(
    store: str,
) -> None:
    lines = [deposit(f"a{n % 5}", n) for n in range(1, 101)]
    earlier = begun(store, "--run", "import")
    feed(earlier, *lines[:50])
    assert len(answers_of(earlier, 50)) == 50
    later = process("run", BANK, "--store", store, "--run", "import", stdin=as_input(lines))
    assert later.code == 0
    assert later.answers[-1]["line"] == 100
    feed(earlier, *lines[50:])
    assert earlier.stdout is not None
    assert earlier.wait(HANG_LIMIT) == 1
    _, _, said = ended(earlier)
    assert "run 'import' was taken over by a later call with this name" in said
    assert "Traceback" not in said
    assert stored_in(store) == simulate(map(json.loads, lines))[0]


@posix_only
def test_a_reader_that_goes_away_ends_the_run_silently_and_the_same_call_goes_on(store: str) -> None:
    lines = [deposit(f"a{n % 5}", n) for n in range(1, 3_001)]
    running = begun(store, "--run", "import")
    assert running.stdout is not None
    feed(running, *lines[:100])
    assert answers_of(running, 1)[0]["line"] == 1
    running.stdout.close()
    feed(running, *lines[100:200])
    assert running.wait(HANG_LIMIT) == 141
    assert running.stderr is not None
    assert running.stderr.read() == b""
    with running:
        pass
    again = process("run", BANK, "--store", store, "--run", "import", stdin=as_input(lines))
    assert again.code == 0
    assert stored_in(store) == simulate(map(json.loads, lines))[0]


@posix_only
def test_head_is_given_what_it_wants_and_nobody_complains(store: str) -> None:
    process("run", BANK, "--store", store, stdin=line("ada", "Split", amount=4_000, parts=4_000))
    running = started("events", "bank_account-ada", "--store", store)
    assert [answer["version"] for answer in answers_of(running, 2)] == [1, 2]
    assert running.stdout is not None
    running.stdout.close()
    assert running.wait(HANG_LIMIT) == 141
    assert running.stderr is not None
    assert running.stderr.read() == b""
    with running:
        pass


@posix_only
def test_follow_shows_events_as_they_come_until_it_is_interrupted(store: str) -> None:
    process("run", BANK, "--store", store, stdin=as_input([deposit("ada", 1), deposit("bob", 1)]))
    running = started("events", "bank_account-ada", "--store", store, "--follow")
    assert answers_of(running, 1)[0]["version"] == 1
    process("run", BANK, "--store", store, stdin=as_input([deposit("bob", 2), deposit("ada", 2)]))
    assert answers_of(running, 1)[0]["data"] == {"amount": 2}
    running.send_signal(signal.SIGINT)
    code, _, said = ended(running)
    assert (code, said) == (130, "")


@posix_only
def test_two_processes_may_run_on_one_file_at_once(store: str) -> None:
    first = begun(store)
    second = begun(store)
    lines = [deposit("ada", 1)] * 200
    feed(first, *lines)
    feed(second, *lines)
    assert ended(first)[0] == ended(second)[0] == 0
    assert stored_in(store) == {"ada": [("Deposited", 1)] * 400}
