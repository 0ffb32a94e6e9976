"""What the fault tests share: chance that can be replayed, and a file."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

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
def url(tmp_path: Path) -> str:
    """Where the store is that all processes of a test share."""
    return f"sqlite:///{tmp_path}/bank.db"
