"""Stores of every kind, for what moves between them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from rehydrate.testing.servers import drop_database, fresh_database

NewUrl = Callable[[str], str]

KINDS: Final = ("memory", "sqlite", "postgresql", "mongodb", "nats")


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewUrl]:
    """The URL of a new, empty store of a kind: `new_url("sqlite")`. One in memory lives while it is open."""
    count = itertools.count()
    lent: set[str] = set()
    with ExitStack() as ending:

        def new(kind: str) -> str:
            number = next(count)
            if kind == "memory":
                return f"memory://moving-{os.getpid()}-{id(ending)}-{number}"
            if kind == "sqlite":
                return f"sqlite:///{tmp_path}/store-{number}.db"
            url: str = request.getfixturevalue(f"{kind.removesuffix('ql')}_url")
            if kind not in lent:
                # It is empty, and is emptied for the next: much less work than to make another.
                lent.add(kind)
                return url
            url = fresh_database(url)
            ending.callback(drop_database, url)
            return url

        yield new
