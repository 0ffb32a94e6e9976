from pathlib import Path

import pytest

from tests.cluster.cluster_nodes import quick


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store that all nodes reach."""
    return f"sqlite:///{tmp_path}/bank.db"


@pytest.fixture
def cluster(nats_url: str) -> str:
    """A cluster that nobody has joined yet."""
    return quick(nats_url)


@pytest.fixture
def short_leases(nats_url: str) -> str:
    """One in which a lease lapses within a test, on a slow machine also where nobody meant it to."""
    return quick(nats_url, ttl=2)
