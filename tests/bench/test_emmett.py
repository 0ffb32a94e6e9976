"""Emmett is a peer where Node.js and npm can be had; elsewhere a row is measured without it, and says so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench import running
from bench.__main__ import main
from bench.emmett import installing
from bench.emmett.installing import PROGRAMS, Choice, why_not_here
from bench.sample import Sample
from bench.summary import Report

Program = Callable[[str, str], None]


def _nothing(_name: str) -> None:
    """No module is there."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on a path that has nothing else; there is no wheel, and nothing is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(installing, "find_spec", _nothing)
    monkeypatch.setattr(installing, "CACHE", tmp_path / "cache")

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    return put


def _told(choice: Choice = Choice.NEWEST) -> tuple[str, list[str]]:
    told: list[str] = []
    return why_not_here(choice, told.append), told


@pytest.mark.usefixtures("program")
def test_without_node_a_row_is_measured_without_emmett_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object) -> Sample:
        return Sample(1.0, {})

    monkeypatch.setattr(running, "run_alone", measure)
    files = ["--json", str(tmp_path / "report.json"), "--markdown", str(tmp_path / "report.md")]
    main(["--quick", "--only", "memory-1", *files, "--folder", str(tmp_path)])
    (row,) = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report).rows
    assert not row.failure
    assert "Rehydrate" in [figure.contestant for figure in row.figures]
    assert not any("Emmett" in figure.contestant for figure in row.figures)
    shown, progress = capsys.readouterr()
    assert "not measured: Node.js is not installed" in shown
    assert "[16/16, " in progress
    goals, _, rest = (tmp_path / "report.md").read_text("utf-8").partition("### In memory")
    assert ", 1 was not measured." in goals
    assert "| Rehydrate : Emmett |  |  | >= 6 x | not measured: Node.js is not installed |" in goals
    assert "| Emmett |  |  |  | not measured: Node.js is not installed |" in rest


def test_an_older_node_and_one_without_npm_are_not_enough(program: Program) -> None:
    program("node", "echo v18.20.4")
    assert _told() == ("it needs Node.js 20.19.0, and there is 18.20.4", [])
    program("node", "echo v24.1.0")
    assert _told() == ("npm is not installed", [])
    assert _told(Choice.OLDER) == ("there is no second Node.js", [])


def test_an_installation_that_fails_says_why_and_leaves_nothing(program: Program, tmp_path: Path) -> None:
    program("node", "echo v24.1.0")
    program("npm", "echo 'npm error code ECONNREFUSED' >&2; exit 1")
    why, told = _told()
    assert why == "npm could not install it: ECONNREFUSED"
    assert told == ["Installing Emmett 0.42.0 with npm (only once)"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_it_is_installed_only_once(program: Program) -> None:
    program("node", "echo v24.1.0")
    program("npm", '[ -f package-lock.json ] && [ -f .npmrc ] && [ "$1" = ci ] && /bin/mkdir node_modules')
    assert _told() == ("", ["Installing Emmett 0.42.0 with npm (only once)"])
    assert (installing.installed() / "node_modules").is_dir()
    assert _told() == ("", [])


def test_all_that_npm_installs_is_pinned_and_no_registry_is_named() -> None:
    package = msgspec.json.decode((PROGRAMS / "package.json").read_bytes())
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    lock = msgspec.json.decode((PROGRAMS / "package-lock.json").read_bytes())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > len(package["dependencies"])
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


@pytest.mark.slow
def test_its_bank_refuses_overdrafts_and_stores_each_event(tmp_path: Path) -> None:
    """Real: npm installs it, if need be."""
    if why := why_not_here(Choice.NEWEST, print):
        pytest.skip(why)
    shutil.copytree(PROGRAMS, tmp_path / "own", ignore=shutil.ignore_patterns("*.py"))
    (tmp_path / "own" / "node_modules").symlink_to(installing.installed() / "node_modules")
    script = """
        import { deposit, dispatch, fill, withdraw } from './bank.js';
        import { open } from './stores.js';
        const { store, stored } = await open(null, 1);
        await dispatch(store, 'one', fill(3));
        const { newState } = await dispatch(store, 'one', deposit(10));
        const refused = await dispatch(store, 'one', withdraw(14)).catch((error) => error.message);
        await dispatch(store, 'one', withdraw(13));
        console.log(JSON.stringify([newState, refused, await stored(['one', 'two'])]));
    """
    said = subprocess.run(
        [installing.node(Choice.NEWEST).program, "--input-type=module", "--eval", script],
        cwd=tmp_path / "own",
        check=True,
        capture_output=True,
    ).stdout
    assert msgspec.json.decode(said) == [{"balance": 13, "changes": 4}, "13 are there, and not 14", 5]
