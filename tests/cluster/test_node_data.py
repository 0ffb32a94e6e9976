"""The folder of a node: it stays what it was begun as."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rehydrate.cluster.node_data import NodeData
from rehydrate.cluster.node_plan import NodePlan, plan_node
from rehydrate.errors import ConfigurationError

THREE = {"a": "127.0.0.1:4222", "b": "127.0.0.1:4223", "c": "127.0.0.1:4224"}


def _plan(**arguments: Any) -> NodePlan:
    known: dict[str, Any] = {
        "name": "a",
        "listen": None,
        "peers": (),
        "cluster": "c",
        "token": "secret",
        "tls": None,
        "max_bytes": None,
    }
    return plan_node(**(known | arguments))


def test_a_folder_that_was_begun_alone_is_refused_in_a_cluster_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    alone, of_three = NodeData(tmp_path / "alone"), NodeData(tmp_path / "three")
    alone.claim(_plan())
    of_three.claim(_plan(peers=THREE))
    with pytest.raises(
        ConfigurationError, match=r"begun by a node of 1, and this one is of 3.*rehydrate copy"
    ):
        alone.claim(_plan(peers=THREE))
    with pytest.raises(ConfigurationError, match="begun by a node of 3, and this one is of 1"):
        of_three.claim(_plan())


def test_the_number_of_peers_is_fixed_by_the_first_start(tmp_path: Path) -> None:
    data = NodeData(tmp_path)
    data.claim(_plan(peers=THREE))
    five = THREE | {"d": "127.0.0.1:4225", "e": "127.0.0.1:4226"}
    with pytest.raises(ConfigurationError, match="begun by a node of 3, and this one is of 5"):
        data.claim(_plan(peers=five))
    data.claim(_plan(peers=THREE))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "b"}, "with the name a, and not b"),
        ({"cluster": "d"}, "with the cluster c, and not d"),
        (
            {"peers": {"a": "127.0.0.1:1", "x": "127.0.0.1:2", "y": "127.0.0.1:3"}},
            "the peers a, b, c, and not a, x, y",
        ),
    ],
)
def test_name_cluster_and_peers_stay_what_they_are(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    data = NodeData(tmp_path)
    data.claim(_plan(peers=THREE))
    with pytest.raises(ConfigurationError, match=sentence):
        data.claim(_plan(**({"peers": THREE} | change)))


def test_peers_may_move_to_other_addresses(tmp_path: Path) -> None:
    data = NodeData(tmp_path)
    data.claim(_plan(peers=THREE))
    data.claim(_plan(peers=THREE | {"c": "127.0.0.1:9999"}))


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jetstream").mkdir()
    with pytest.raises(ConfigurationError, match="is not empty, and no node has begun it"):
        NodeData(tmp_path).claim(_plan())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be the folder of a node"):
        NodeData(tmp_path / "file").claim(_plan())


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    data = NodeData(tmp_path)
    data.claim(_plan())
    (tmp_path / "node.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        data.claim(_plan())


def test_of_several_that_begin_one_folder_at_the_same_time_one_does(tmp_path: Path) -> None:
    def claim(name: str) -> bool:
        try:
            NodeData(tmp_path).claim(_plan(name=name))
        except ConfigurationError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, "abcdefgh")) == 1


def test_what_the_server_is_told_only_its_user_can_read(tmp_path: Path) -> None:
    data, plan = NodeData(tmp_path / "data"), _plan()
    data.claim(plan)
    for _ in range(2):
        data.configure(plan)
        file = data.files.configuration
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert '"secret"' in file.read_text("utf-8")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
