"""Every example of the README and of docs/ runs, and prints what the page says it prints."""

from __future__ import annotations

import asyncio
import importlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import IDS, LANGUAGES, PAGES, README, ROOT, Block, blocks, commands, matches
from tests.docs.terminals import Terminals

_COMMANDS = {
    "python": 'exec {python} "$@"',
    "rehydrate": 'exec {python} -c "import sys; from rehydrate.cli.main import main; sys.exit(main())" "$@"',
}
"""What an example finds on its path, whether or not Rehydrate is installed where the tests run."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the examples of a page run: they find the files of the README, and the two commands."""
    here = tmp_path / "here"
    on_path = tmp_path / "bin"
    here.mkdir()
    on_path.mkdir()
    for name, script in _COMMANDS.items():
        (on_path / name).write_text(
            f"#!/bin/sh\n{script.format(python=shlex.quote(sys.executable))}\n", "utf-8"
        )
        (on_path / name).chmod(0o755)
    for block in blocks(README):
        _write(here, block)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    # pytest-asyncio warns where this is not said; whoever tests without it does not see that.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-o asyncio_default_fixture_loop_scope=function")
    if not entry_points(group="pytest11", name="rehydrate"):
        monkeypatch.setenv("PYTEST_PLUGINS", "rehydrate.testing.plugin")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    known = set(sys.modules)
    yield here
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or str(here)).startswith(str(here)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_examples_of_a_page_run(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, namespace = _new_module(page), 0
    printed: str | None = None
    with Terminals(folder.parent) as terminals:
        has_terminals = any(block.terminal for block in blocks(page))
        for each in blocks(page):
            block = replace(each, code=terminals.with_free_ports(each.code)) if has_terminals else each
            if block.not_run is not None or _write(folder, block):
                printed = None
            elif block.terminal:
                other = terminals.follow(block)
                assert other is None, (
                    f"{block.place}: not what the page says\n--- the page\n{block.code}\n--- printed\n{other}"
                )
            elif block.language == "python":
                if block.namespace != namespace:
                    module, namespace = _new_module(page), block.namespace
                capsys.readouterr()
                _run(block, module)
                printed = capsys.readouterr().out
            elif block.language == "console":
                _run_commands(block)
                printed = None
            elif block.language == "text" and printed is not None:
                _compare(block, block.code, printed)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_block_says_what_it_is_and_why_it_is_not_run(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: the language {block.language!r}"
        assert block.not_run is None or len(block.not_run) > 10, f"{block.place}: say why it is not run"


def test_files_of_the_same_name_are_the_same_on_all_pages() -> None:
    first: dict[str, Block] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.file:
                known = first.setdefault(block.file, block)
                assert block.code == known.code, (
                    f"{block.place}: {block.file} is another one at {known.place}"
                )


def _new_module(page: Path) -> ModuleType:
    # A real module: what resolves annotations looks a class up in the module that it was defined in.
    name = f"page_{page.stem.lower()}"
    module = sys.modules[name] = ModuleType(name)
    return module


def _run(block: Block, module: ModuleType) -> None:
    exec(compile(block.source(), str(block.page), "exec", dont_inherit=True), module.__dict__)
    if block.awaits_from is not None:
        asyncio.run(getattr(module, block.function)())


def _run_commands(block: Block) -> None:
    found = commands(block)
    for number, (command, expected) in enumerate(found, 1):
        done = subprocess.run(
            command,
            check=False,
            shell=True,
            text=True,
            timeout=120,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        _compare(block, expected, done.stdout, command)
        exits_with = block.exits_with if number == len(found) else 0
        assert done.returncode == exits_with, f"{block.place}: `{command}` ended with {done.returncode}"


def _compare(block: Block, expected: str, printed: str, command: str = "the example") -> None:
    if not matches(expected, printed):
        pytest.fail(
            f"{block.place}: `{command}` does not print what the page says\n"
            f"--- the page\n{expected}\n--- printed\n{printed}",
            pytrace=False,
        )


def _write(folder: Path, block: Block) -> bool:
    """Write the file that a block is; false if it is none."""
    if not block.file:
        return False
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.code, "utf-8")
    importlib.invalidate_caches()
    return True
