"""How a command ends where stdin, stdout or stderr fails it, or the system does: one sentence, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rehydrate.cli.main import main
from tests.cli.terminal import BANK, HANG_LIMIT, ROOT, Ended, as_input, deposit, typed

needs_a_shell = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is Linux's")


def in_shell(line: str, *, stdin: str = "") -> Ended:
    """Run a line of a shell in which `rehydrate` is the command."""
    ran = subprocess.run(
        ["sh", "-c", line.replace("rehydrate", f"{sys.executable} -m rehydrate.cli", 1)],
        input=stdin.encode(), capture_output=True, timeout=HANG_LIMIT, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    return Ended(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.fixture
def bank(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/bank.db"
    assert typed("run", BANK, "--store", url, stdin=deposit("ada", 1)).code == 0
    return url


@needs_a_shell
@pytest.mark.parametrize("command", ["streams", f"state {BANK} bank_account ada"])
def test_where_the_answer_cannot_be_written_that_is_one_sentence(command: str, bank: str) -> None:
    ended = in_shell(f"rehydrate {command} --store {bank} > /dev/full")
    assert ended == (1, "", "rehydrate: No space left on device\n")


@needs_a_shell
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("rehydrate streams --store {bank} >&-", "Bad file descriptor"),
        ("rehydrate --version > /dev/full", "No space left on device"),
        (f"rehydrate run {BANK} --store {{bank}} <&-", "the input cannot be read: [Errno 9] Bad file descriptor"),
    ],
)  # fmt: skip
def test_a_stream_that_is_closed_or_full_is_one_sentence(line: str, sentence: str, bank: str) -> None:
    ended = in_shell(line.format(bank=bank))
    assert (ended.code, ended.stdout) == (1, "")
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


@needs_a_shell
@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_a_run_goes_on_where_nobody_can_be_told_anything(stderr: str) -> None:
    lines = as_input(["no command", *[deposit("ada", 1) for _ in range(50)]])
    ended = in_shell(f"rehydrate run {BANK} --store memory:// 2>{stderr}", stdin=lines)
    assert ended.code == 1
    assert [answer["line"] for answer in ended.answers] == list(range(1, 52))


@pytest.mark.parametrize("path", ["a" * 300, f"{'a' * 300}/bank.db"])
@pytest.mark.parametrize("command", ["streams", f"run {BANK}"])
def test_a_path_that_the_system_refuses_is_one_sentence(command: str, path: str, tmp_path: Path) -> None:
    ended = typed(*command.split(), "--store", f"sqlite:///{tmp_path}/{path}", stdin=deposit("ada", 1))
    assert (ended.code, ended.stdout) == (1, "")
    assert "File name too long" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("given", ["0", "'all went well'", ""])
def test_a_module_that_ends_the_program_is_said_to(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script_that_ends.py").write_text(f"import sys\nsys.exit({given})\n")
    monkeypatch.chdir(tmp_path)
    ended = typed("run", "script_that_ends:app", "--store", "memory://", stdin=deposit("ada", 1))
    assert ended.code == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "rehydrate: module 'script_that_ends' could not be imported"
    )


def test_an_interrupt_before_the_command_has_begun_is_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    program = ModuleType("rehydrate.cli.program")
    vars(program)["program"] = interrupted
    monkeypatch.setitem(sys.modules, "rehydrate.cli.program", program)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 130


def test_a_version_beyond_every_version_is_wrong_usage() -> None:
    assert typed("events", "bank_account-ada", "--after", str(2**63), "--store", "memory://").code == 2
