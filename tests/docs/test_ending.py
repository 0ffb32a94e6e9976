"""A program as the page on the App ends it: SIGTERM leaves in order, with and without an event loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rehydrate.testing.clock import HANG_LIMIT
from tests.docs.pages import README, ROOT, blocks

WITHOUT_A_LOOP = """
import signal
import sys

from bank import app

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    with app.open_sync("sqlite:///bank.db"):
        print("the bank is open", flush=True)
        while True:
            signal.pause()
finally:
    print("the bank is closed")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for page in (README, ROOT / "docs" / "app.md"):
        for block in blocks(page):
            if block.file:
                (tmp_path / block.file).write_text(block.code, "utf-8")
    (tmp_path / "without_a_loop.py").write_text(WITHOUT_A_LOOP, "utf-8")
    return tmp_path


@pytest.mark.parametrize("program", ["service.py", "without_a_loop.py"])
def test_sigterm_closes_the_bank(folder: Path, program: str) -> None:
    process = subprocess.Popen(
        [sys.executable, program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "the bank is open\n"
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=HANG_LIMIT)
    finally:
        process.kill()
        process.wait()
    assert (printed, process.returncode) == ("the bank is closed\n", 0)
