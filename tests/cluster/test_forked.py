"""A process that is a node of a cluster forks: the child is none, and the parent goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.cluster.cluster_nodes import SHARDS

_ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_in_a_forked_child_a_node_is_closed_and_the_parent_goes_on(nats_url: str, cluster: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.forked_node", nats_url, cluster],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    before, in_child, after, owned = msgspec.json.decode(done.stdout)
    assert (before, after) == (["1", "1"], ["2", "2"])
    assert in_child == ["StoreClosedError"] * 2
    assert owned == [SHARDS // 2, SHARDS // 2]
