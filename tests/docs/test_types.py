"""The examples are clean under strict type checkers, as the code of whoever copies them should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, modules


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All examples as modules."""
    for page in PAGES:
        for name, source in modules(page).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, "utf-8")
    return tmp_path


def test_mypy_finds_nothing(folder: Path) -> None:
    (folder / "mypy.ini").write_text(
        f"[mypy]\nstrict = True\nmypy_path = {ROOT / 'src'}\ncache_dir = {ROOT / '.venv/cache/mypy-docs'}\n"
        "explicit_package_bases = True\n",
        "utf-8",
    )
    _check(folder, "mypy", "--config-file", "mypy.ini", ".")


def test_pyright_finds_nothing(folder: Path) -> None:
    rules = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT / "src")],
        # An example may stop before it uses a value, and imports what it needs though another one did.
        "reportUnusedVariable": False,
        "reportDuplicateImport": False,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(rules), "utf-8")
    _check(folder, "pyright", "--pythonpath", sys.executable)


def _check(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"line numbers are those of the page\n{done.stdout}"
