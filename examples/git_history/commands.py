"""A history as lines for `rehydrate run`: one command per change, and for a rename one on each of its two paths."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from examples.git_history.file import Add, Command, Delete, Modify, RenameFrom, RenameTo
from examples.git_history.paths import id_of
from examples.git_history.repository import Change


class CommandLine(msgspec.Struct, frozen=True):
    """What `rehydrate run` reads."""

    aggregate: str
    id: str
    command: str
    data: Command


def lines_of(change: Change) -> Iterator[bytes]:
    """The lines that a change makes."""
    for path, command in _commands(change):
        yield msgspec.json.encode(CommandLine("file", id_of(path), type(command).__name__, command)) + b"\n"


def _commands(change: Change) -> Iterator[tuple[bytes, Command]]:
    commit, at, mode, blob = change.commit, change.at, change.new.mode, change.new.blob
    match change.status:
        case "A" | "C":  # A copy leaves its source alone.
            yield change.path, Add(commit=commit, at=at, mode=mode, blob=blob)
        case "M" | "T":  # T: a file became a symbolic link or a submodule, or the other way round.
            yield change.path, Modify(commit=commit, at=at, mode=mode, blob=blob)
        case "D":
            yield change.path, Delete(commit=commit, at=at)
        case "R":
            yield change.source, RenameTo(commit=commit, at=at, path=id_of(change.path))
            path = id_of(change.source)
            yield change.path, RenameFrom(commit=commit, at=at, mode=mode, blob=blob, path=path)
        case other:
            raise ValueError(
                f"git says {other!r} of {change.path!r} in {commit}, which a history should not hold"
            )
