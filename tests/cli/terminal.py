"""Typing commands: in this process, which is fast, and as processes of their own, which can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from rehydrate.cli.program import program

ROOT = Path(__file__).parent.parent.parent
BANK = "tests.bank:app"
HANG_LIMIT = 60.0


class Ended(NamedTuple):
    """What a command left on the screen."""

    code: int
    stdout: str
    stderr: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Each line of stdout as JSON."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def typed(*arguments: str | Path, stdin: str | bytes = b"") -> Ended:
    """Run a command in this process."""
    result = CliRunner().invoke(
        program, [str(each) for each in arguments], input=stdin, prog_name="rehydrate"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def process(*arguments: str | Path, stdin: str | bytes = b"", cwd: Path = ROOT, **env: str) -> Ended:
    """Run a command as a process, to its end."""
    ran = subprocess.run(
        _command(arguments), input=stdin.encode() if isinstance(stdin, str) else stdin, capture_output=True,
        cwd=cwd, env=_environment(env), timeout=HANG_LIMIT, check=False,
    )  # fmt: skip
    return Ended(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def started(*arguments: str | Path, after: str = "") -> subprocess.Popen[bytes]:
    """Begin a command as a process, where need be after some lines of Python that change a time in it."""
    return subprocess.Popen(
        _command(arguments, after), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env=_environment({}),
    )  # fmt: skip


def _command(arguments: Sequence[str | Path], after: str = "") -> list[str]:
    program = (
        ["-c", f"{after}\nfrom rehydrate.cli.main import main\nmain()"] if after else ["-m", "rehydrate"]
    )
    return [sys.executable, *program, *map(str, arguments)]


def _environment(changes: dict[str, str]) -> dict[str, str]:
    # The package may be on the path of the tests only, not installed; then it has to be found from any directory.
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"} | changes


def line(id: str, command: str, *, aggregate: str = "bank_account", **more: Any) -> str:
    """A line that asks for a command; what is no field of a line is a field of the command."""
    fields = {name: more.pop(name) for name in ("command_id", "metadata") if name in more}
    return json.dumps({"aggregate": aggregate, "id": id, "command": command, "data": more, **fields})


def deposit(id: str, amount: int, **more: Any) -> str:
    return line(id, "Deposit", amount=amount, **more)


def withdraw(id: str, amount: int, **more: Any) -> str:
    return line(id, "Withdraw", amount=amount, **more)


def as_input(lines: Iterable[str]) -> str:
    return "".join(f"{each}\n" for each in lines)
