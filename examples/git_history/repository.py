"""A git repository, as far as its history on the first parents and the tree of its head. Speaks to git's plumbing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

_CHUNK: Final = 256 * 1024
_LATEST: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


class NoHistoryError(Exception):
    """There is no history to be had here, and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a tree says of a path: a file, a symbolic link or a submodule."""

    mode: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit did to a path, compared with its first parent."""

    commit: str
    at: datetime
    status: str
    """A letter of git's: A, M, T, D, R or C."""
    new: Entry
    path: bytes
    source: bytes = b""
    """Where a renamed or copied file was before."""


class Repository:
    """The history of the commit that was the head when this was made."""

    def __init__(self, path: Path) -> None:
        if shutil.which("git") is None:
            raise NoHistoryError("git is not installed")
        if not path.is_dir():
            raise NoHistoryError(f"{path} is not a directory")
        self._path = path
        self._ask("rev-parse", "--git-dir")
        try:
            self.head = self._ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode()
        except NoHistoryError:
            raise NoHistoryError(f"the repository at {path} has no commit yet") from None

    def changes(self) -> Iterator[Change]:
        """Every change, the oldest first; a merge is its difference to its first parent."""
        with tempfile.TemporaryFile() as commits:
            times = self._list_commits(commits)
            commits.seek(0)
            diff = subprocess.Popen(
                self._git("diff-tree", "--stdin", "--root", "-r", "-z", "-M", "--no-abbrev", "--no-relative",
                          "--ignore-submodules=none"),
                env=_environment(), stdin=commits, stdout=subprocess.PIPE,
            )  # fmt: skip
            with diff:
                assert diff.stdout is not None
                yield from _changes(_fields(diff.stdout), times)
            if diff.returncode:
                raise RuntimeError(f"git diff-tree ended with {diff.returncode}")

    def living(self) -> dict[bytes, Entry]:
        """The tree of the head: every path that has something."""
        tree: dict[bytes, Entry] = {}
        for line in self._ask("ls-tree", "-r", "-z", "--full-tree", self.head).split(b"\0"):
            if line:
                about, _, path = line.partition(b"\t")
                mode, _, blob = about.decode().split(" ")
                tree[path] = Entry(mode, blob)
        return tree

    def _list_commits(self, to: IO[bytes]) -> dict[str, datetime]:
        """Write `commit parent` for each commit, and return when each was made."""
        times: dict[str, datetime] = {}
        listed = self._ask("rev-list", "--first-parent", "--reverse", "--parents", "--timestamp", self.head)
        for line in listed.decode().splitlines():
            seconds, commit, *parents = line.split(" ")
            times[commit] = datetime.fromtimestamp(min(int(seconds), _LATEST), UTC)
            to.write(" ".join([commit, *parents[:1]]).encode() + b"\n")
        return times

    def _ask(self, *arguments: str) -> bytes:
        asked = subprocess.run(self._git(*arguments), env=_environment(), capture_output=True, check=False)
        if asked.returncode:
            said = asked.stderr.decode(errors="replace").strip().splitlines()
            raise NoHistoryError(f"git says of {self._path}: {said[0] if said else 'nothing'}")
        return asked.stdout.removesuffix(b"\n")

    def _git(self, *arguments: str) -> list[str]:
        return ["git", "-C", str(self._path), *arguments]


def _environment() -> dict[str, str]:
    """Without the variables by which git, when it calls a hook, points at another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "LC_ALL": "C"
    }


def _fields(output: IO[bytes]) -> Iterator[bytes]:
    """What stands between NULs."""
    rest = b""
    while chunk := output.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole


def _changes(fields: Iterator[bytes], times: dict[str, datetime]) -> Iterator[Change]:
    """A commit is a field of its own; a change is `:modes blobs status`, then one path or two."""
    commit = ""
    for field in fields:
        if not field.startswith(b":"):
            commit = field.decode()
            continue
        _, mode, _, blob, status = field.decode().split(" ")
        path, source = next(fields), b""
        if status[0] in "RC":
            path, source = next(fields), path
        yield Change(
            commit=commit, at=times[commit], status=status[0], new=Entry(mode, blob), path=path, source=source
        )
