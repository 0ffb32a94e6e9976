"""A file of a repository: what may become of it, and what has. An impossible change is refused, not believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias, assert_never

from rehydrate import Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    commit: str
    at: datetime
    mode: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Modify:
    commit: str
    at: datetime
    mode: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameFrom:
    """The file appears here, and was at another path before."""

    commit: str
    at: datetime
    mode: str
    blob: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameTo:
    """The file goes away from here, to another path."""

    commit: str
    at: datetime
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    commit: str
    at: datetime


Command: TypeAlias = Add | Modify | RenameFrom | RenameTo | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    commit: str
    at: datetime
    mode: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Modified:
    commit: str
    at: datetime
    mode: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenamedFrom:
    commit: str
    at: datetime
    mode: str
    blob: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenamedTo:
    commit: str
    at: datetime
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    commit: str
    at: datetime


Event: TypeAlias = Added | Modified | RenamedFrom | RenamedTo | Deleted


class AlreadyThere(Rejection):
    """What lives cannot be added."""


class NotThere(Rejection):
    """What does not live cannot be changed, renamed or deleted."""


class NothingChanged(Rejection):
    """A modification that leaves mode and content as they are is none."""


@dataclass(frozen=True, slots=True)
class File:
    """What has become of a path."""

    lives: bool = False
    mode: str = ""
    blob: str = ""
    changes: int = 0


def decide(file: File, command: Command) -> Iterable[Event]:
    """What a command leads to, or why it is impossible."""
    match command:
        case Add(commit=commit, at=at, mode=mode, blob=blob):
            _check_gone(file, commit)
            yield Added(commit=commit, at=at, mode=mode, blob=blob)
        case RenameFrom(commit=commit, at=at, mode=mode, blob=blob, path=path):
            _check_gone(file, commit)
            yield RenamedFrom(commit=commit, at=at, mode=mode, blob=blob, path=path)
        case Modify(commit=commit, at=at, mode=mode, blob=blob):
            _check_lives(file, commit)
            if (mode, blob) == (file.mode, file.blob):
                raise NothingChanged(commit=commit)
            yield Modified(commit=commit, at=at, mode=mode, blob=blob)
        case RenameTo(commit=commit, at=at, path=path):
            _check_lives(file, commit)
            yield RenamedTo(commit=commit, at=at, path=path)
        case Delete(commit=commit, at=at):
            _check_lives(file, commit)
            yield Deleted(commit=commit, at=at)
        case _:
            assert_never(command)


def evolve(file: File, event: Event) -> File:
    """What a path is after an event."""
    match event:
        case Added(mode=mode, blob=blob) | RenamedFrom(mode=mode, blob=blob) | Modified(mode=mode, blob=blob):
            return File(lives=True, mode=mode, blob=blob, changes=file.changes + 1)
        case RenamedTo() | Deleted():
            return replace(file, lives=False, changes=file.changes + 1)
        case _:
            assert_never(event)


def _check_lives(file: File, commit: str) -> None:
    if not file.lives:
        raise NotThere(commit=commit)


def _check_gone(file: File, commit: str) -> None:
    if file.lives:
        raise AlreadyThere(commit=commit)
