"""What users write is checked by mypy and pyright alike, both strict, without an annotation of theirs for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BAD = HERE / "bad.py"
FILES = [HERE / "bank.py", HERE / "good.py", BAD]

Found = set[tuple[str, int]]
"""File and line of each complaint."""


def mypy(_: Path) -> Found:
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", *map(str, FILES)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode in {0, 1}, told.stdout + told.stderr
    lines = [re.match(r"(.+?):(\d+): error: ", line) for line in told.stdout.splitlines()]
    return {(Path(found[1]).name, int(found[2])) for found in lines if found}


def pyright(folder: Path) -> Found:
    # Copies, in a project of their own: that of pyproject.toml leaves the bad file out, even if asked for by name.
    for file in FILES:
        shutil.copy(file, folder)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pyright"]
    kept = {name: settings[name] for name in ("typeCheckingMode", "pythonVersion")}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(kept | {"extraPaths": [str(ROOT / "src"), str(ROOT)]}), "utf-8")
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "-p",
        str(project),
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode in {0, 1}, told.stdout + told.stderr
    answer = json.loads(told.stdout)
    assert answer["summary"]["filesAnalyzed"] == len(FILES), answer
    return {
        (Path(complaint["file"]).name, complaint["range"]["start"]["line"] + 1)
        for complaint in answer["generalDiagnostics"]
        if complaint["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_every_marked_line_is_refused_and_no_other(checker: Callable[[Path], Found], tmp_path: Path) -> None:
    lines = enumerate(BAD.read_text("utf-8").splitlines(), start=1)
    marked = {(BAD.name, number) for number, line in lines if "# refused: " in line}
    found = checker(tmp_path)
    assert found - marked == set(), "refused, and should not be"
    assert marked - found == set(), "accepted, and should not be"
