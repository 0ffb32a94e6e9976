"""The shape of the project, beside the layers, which import-linter checks in `make check`."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import rehydrate

ROOT = Path(__file__).parent.parent
MAX_LINES = 500
EXTRAS = {
    "typer",
    "rich",
    "pytest",
    "hypothesis",
    "pydantic",
    "attr",
    "attrs",
    "sqlite3",
    "asyncpg",
    "pymongo",
    "bson",
    "nats",
}


def test_every_public_name_of_rehydrate_is_in_all() -> None:
    public = {
        name
        for name, value in vars(rehydrate).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public <= set(rehydrate.__all__)


def test_every_name_in_all_can_be_imported() -> None:
    missing = [name for name in rehydrate.__all__ if not hasattr(rehydrate, name)]
    assert missing == []


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert list(rehydrate.__all__) == sorted(set(rehydrate.__all__))


def test_no_module_is_over_500_lines() -> None:
    folders = [ROOT / name for name in ("src", "tests", "bench", "examples")]
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    assert modules
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_import_rehydrate_imports_no_extra_and_no_driver() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, rehydrate; print(*sys.modules, sep='\\n')"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = set(imported.stdout.split())
    assert "rehydrate" in names
    assert names & EXTRAS == set()


def test_the_pytest_plugin_starts_with_no_driver_and_no_server() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, rehydrate.testing.plugin; print(*sys.modules, sep='\\n')"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = set(imported.stdout.split())
    assert "pytest" in names
    assert names & (EXTRAS - {"pytest"}) == set()
    assert not any(name.startswith("rehydrate.testing.servers") for name in names)
