"""What a person at a terminal sees of a run."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.terminal import BANK, HANG_LIMIT, ROOT, as_input, deposit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a pseudo terminal is POSIX's")
ERASE = "\x1b[2K"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    path = tmp_path / "commands.jsonl"
    path.write_text(as_input([deposit(f"a{n % 7}", n) for n in range(1, 500)]))
    return path


@contextmanager
def terminal() -> Generator[tuple[int, int], None, None]:
    """The two ends of a pseudo terminal: that of the person, that of the program."""
    person, program = os.openpty()
    try:
        yield person, program
    finally:
        os.close(person)


def seen(person: int, until: str) -> str:
    """What appears on the terminal, until that does."""
    shown = b""
    give_up = time.monotonic() + HANG_LIMIT
    while until.encode() not in shown:
        assert time.monotonic() < give_up, shown
        if select.select([person], [], [], 1.0)[0]:
            shown += os.read(person, 65_536)
    return shown.decode()


def begin(*arguments: str | Path, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    return subprocess.Popen(
        [sys.executable, "-m", "rehydrate.cli", "run", BANK, "--store", "memory://", *arguments],
        stdin=stdin, stdout=stdout, stderr=stderr, cwd=ROOT, env=environment,
    )  # fmt: skip


def test_a_bar_is_shown_on_stderr_and_taken_away_for_the_summary(commands: Path) -> None:
    with terminal() as (person, program):
        running = begin(commands, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=program)
        os.close(program)
        answers, _ = running.communicate(timeout=HANG_LIMIT)
        shown = seen(person, "(--run NAME makes a run repeatable)")
    assert answers.count(b"\n") == 499
    assert "499 commands" in shown
    assert "100%" in shown
    summary = [line for line in shown.split("\n") if "499 accepted, 0 rejected, 0 failed" in line]
    assert ERASE in summary[0]
    assert "\x1b[?25h" in shown, "the cursor is back"


def test_answers_and_the_bar_share_a_terminal(commands: Path) -> None:
    with terminal() as (person, program):
        running = begin(commands, stdin=subprocess.DEVNULL, stdout=program, stderr=program)
        os.close(program)
        shown = seen(person, "(--run NAME makes a run repeatable)")
        assert running.wait(HANG_LIMIT) == 0
    answers = [line.rpartition(ERASE)[2] for line in shown.splitlines() if '"line":' in line]
    assert len(answers) == 499
    assert all(answer.startswith('{"line":') for answer in answers)


def test_whoever_types_is_told_what_to_type_and_gets_each_answer_without_a_bar() -> None:
    with terminal() as (person, program):
        running = begin(stdin=program, stdout=program, stderr=program)
        os.close(program)
        seen(person, "one JSON object per line; Ctrl-D ends them")
        os.write(person, f"{deposit('ada', 1)}\n".encode())
        assert ERASE not in seen(person, '"version":1')
        os.write(person, b"\x04")
        seen(person, "1 accepted, 0 rejected, 0 failed")
        assert running.wait(HANG_LIMIT) == 0
