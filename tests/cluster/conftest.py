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
