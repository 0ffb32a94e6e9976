"""What the fault tests share: chance that can be replayed, a file, and servers that a test may trouble."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrate.testing.servers import MongoServer, PostgresServer
from tests.faults.real_servers import Server

SEED = "REHYDRATE_FAULT_SEED"


@pytest.fixture
def chance() -> random.Random:
    """Decides who is killed, and when. A failing test shows its seed: set `REHYDRATE_FAULT_SEED` to it.

    The operating system does not repeat itself, so the same seed makes the same failure likely, and not certain.
    """
    seed = os.environ.get(SEED) or str(random.SystemRandom().getrandbits(32))
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it with a failure
    return random.Random(seed)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store is that all processes of a test share: a file, or on the server that a test asks for."""
    kind = getattr(request, "param", "sqlite")
    return (
        f"sqlite:///{tmp_path}/bank.db" if kind == "sqlite" else str(request.getfixturevalue(f"{kind}_url"))
    )


@pytest.fixture(params=["postgres", "mongodb"])
def server(
    request: pytest.FixtureRequest,
    start_postgres: Callable[..., PostgresServer],
    start_mongodb: Callable[..., MongoServer],
) -> Server:
    """A server of the test's own. Where the version matters, a test asks for `postgres 16` as well."""
    kind, _, version = str(request.param).partition(" ")
    if kind == "mongodb":
        return start_mongodb(members=int(version or 1))
    return start_postgres(version=int(version)) if version else start_postgres()
