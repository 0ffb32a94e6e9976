"""`make demo`: what it shows, as a process and without a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from examples import demo
from examples.git_history.repository import Entry, Repository
from tests.cli.terminal import HANG_LIMIT, ROOT
from tests.examples.history import History, file

with_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: install it")


def run_demo(*arguments: Path, **env: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", *arguments],
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=HANG_LIMIT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "PYTHONUTF8": "1"} | env,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    history = History(tmp_path)
    history.commit({f"n{number}": file(f"{number}") for number in range(20)} | {"odd [red]\n\xff": file("o")})
    history.commit({"n1": file("changed"), "n2": None, "n3": None, "renamed": file("3")})
    return history.write()


@with_git
def test_the_demo_plays_the_bank_and_a_history_in_80_columns(repository: Path) -> None:
    code, shown = run_demo(repository)
    assert code == 0, shown
    for text in (
        "Deposit(amount=100)   → version 1: Deposited(amount=100)",
        "Withdraw(amount=10)   → version 2: Withdrawn(amount=10)",
        "Withdraw(amount=1000) → refused: insufficient funds: balance 90, amount 1000",
        "its state   Account(balance=90, is_closed=False)",
        "rebuilt from Deposited(amount=100) and Withdrawn(amount=10)",
        "git told of 25 changes",
        "25 accepted, 0 rejected, 0 failed",
        "was finished before, all its 25 lines: there was nothing to do",
        "20 files live, with the modes and contents of git ls-tree -r HEAD",
        "events per day",
    ):
        assert text in shown
    bars = [line for line in shown.splitlines() if "█" in line]
    assert len(bars) == 2
    assert all(len(line) <= 80 for line in shown.splitlines() if "rehydrate:" not in line)
    assert "\x1b" not in shown


@with_git
def test_the_demo_on_its_own_history_or_without_one(tmp_path: Path) -> None:
    code, shown = run_demo()
    assert code == 0, shown
    assert "files live, with the modes" in shown or "Skipped: " in shown


def test_a_tree_without_git_skips_the_history_with_one_sentence(tmp_path: Path) -> None:
    code, shown = run_demo(tmp_path)
    assert code == 0
    (skipped,) = [line for line in shown.splitlines() if "Skipped" in line]
    assert "git" in skipped
    assert "What it came to" not in shown


@with_git
def test_a_store_that_does_not_agree_with_git_is_a_failure_with_a_difference(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Repository(repository).living()
    del tree[b"n4"]
    tree[b"never [bold] there"] = Entry("100644", "1")

    def living(repository: Repository) -> dict[bytes, Entry]:
        return tree

    monkeypatch.setattr(Repository, "living", living)
    folder = tmp_path / "demo"
    folder.mkdir()
    assert demo.play_history(Console(width=80), folder, repository) == 1
    shown = capsys.readouterr().out
    assert "The living files differ from git ls-tree -r HEAD" in shown
    assert "- never [bold] there\n" in shown
    assert "+ n4\n" in shown


def test_many_days_become_months_or_years() -> None:
    days = Counter({date(2024, 1, 1) + timedelta(days=number): 1 for number in range(100)})
    assert demo.in_periods(days)[0] == "month"
    assert sum(count for _, count in demo.in_periods(days)[1]) == 100
    days = Counter({date(1990 + number, 1, 1): 1 for number in range(30)})
    assert demo.in_periods(days) == ("year", [(str(year), 1) for year in range(2008, 2020)])
    assert demo.in_periods(Counter()) == ("day", [])
