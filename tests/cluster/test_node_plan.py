"""What a node may be: every combination that could not work is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from rehydrate.cluster import Node, TlsFiles
from rehydrate.cluster.node_plan import NodePlan
from rehydrate.errors import ConfigurationError

THREE = {"a": "127.0.0.1:4222", "b": "127.0.0.1:4223", "c": "127.0.0.1:4224"}


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = [tmp_path / name for name in ("certificate", "key", "authority")]
    for file in files:
        file.touch()
    return TlsFiles(certificate=files[0], key=files[1], authority=files[2])


def _node(**arguments: Any) -> Node:
    known: dict[str, Any] = {"name": "a", "data": "data"}
    return Node(**(known | arguments))


def _settings(node: Node) -> dict[str, Any]:
    plan: NodePlan = node.plan
    return plan.configuration(node.data, node.files).settings()


def test_a_node_alone_is_told_of_no_cluster() -> None:
    node = _node()
    assert "cluster" not in _settings(node)
    assert node.url == "nats://127.0.0.1:4222"
    assert node.replicas == 1


@pytest.mark.parametrize("name", THREE)
def test_a_node_never_lists_itself_among_its_routes(name: str) -> None:
    node = _node(name=name, peers=THREE, token="secret")
    routes = " ".join(_settings(node)["cluster"]["routes"])
    ports = {other: f":{int(place.rpartition(':')[2]) + 2000}" for other, place in THREE.items()}
    assert ports[name] not in routes
    assert all(ports[other] in routes for other in THREE if other != name)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_as_many_copies_are_asked_for_as_there_are_peers(count: int) -> None:
    node = _node(peers=[f"{name}=127.0.0.1:{5000 + number}" for number, name in enumerate("abcde"[:count])])
    assert node.replicas == count
    assert node.store_url("bank").endswith(f"/bank?replicas={count}&sync=always")


@pytest.mark.parametrize("count", [2, 4, 6])
def test_another_number_of_nodes_is_refused(count: int) -> None:
    peers = {name: f"127.0.0.1:{5000 + number}" for number, name in enumerate("abcdef"[:count])}
    with pytest.raises(ConfigurationError, match=rf"1, 3 or 5 nodes, and these are {count}:"):
        _node(peers=peers)


def test_every_write_is_synced_and_messages_may_be_large() -> None:
    settings = _settings(_node(max_bytes=1_000_000))
    assert settings["jetstream"]["sync_interval"] == "always"
    assert settings["jetstream"]["max_file"] == 1_000_000
    assert settings["max_payload"] == 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "a b"}, "a node cannot be named 'a b'"),
        ({"cluster": "x.y"}, r"a cluster cannot be named 'x\.y'"),
        ({"listen": "4222"}, "'4222' is no HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "is no HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "is no HOST:PORT"),
        ({"listen": "::1:4222"}, r"write an IPv6 address as \[::1\]:4222"),
        ({"peers": ["b=127.0.0.1:4222"]}, "node 'a' is not among its peers"),
        ({"peers": ["127.0.0.1:4222"]}, "is no NAME=HOST:PORT"),
        ({"peers": ["a=127.0.0.1:1", "a=127.0.0.1:2", "b=127.0.0.1:3"]}, "two peers named 'a'"),
        ({"peers": THREE | {"b": "127.0.0.1:4222"}}, r"two peers are at 127\.0\.0\.1:4222"),
        ({"peers": THREE | {"b": "0.0.0.0:4222"}}, "no address at which anybody could reach peer 'b'"),
        ({"peers": THREE | {"b": "127.0.0.1:64000"}}, "leaves no room for the port 2000 above"),
        ({"listen": "0.0.0.0:4222"}, "say at which address this node is reached"),
        ({"token": "two words"}, "printable ASCII"),
        ({"token": ""}, "printable ASCII"),
        ({"token": "$2a$11$hash"}, "for a hash"),
        ({"max_bytes": 0}, "above 0"),
    ],
)
def test_what_cannot_work_is_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        _node(**arguments)


@pytest.mark.parametrize("host", ["10.0.0.1", "example.org", "[2001:db8::1]", "0.0.0.0"])
def test_beyond_this_machine_a_node_needs_a_token_and_tls(host: str, tls: TlsFiles) -> None:
    place: dict[str, Any] = {"listen": f"{host}:4222", "peers": ["a=node.example.org:4222"]}
    for given in ({}, {"token": "secret"}, {"tls": tls}):
        with pytest.raises(ConfigurationError, match="can be reached from other machines: give it a token"):
            _node(**place, **given)
    settings = _settings(_node(**place, token="secret", tls=tls))
    assert settings["tls"]["cert_file"] == str(tls.certificate)
    assert settings["client_advertise"] == "node.example.org:4222"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "[::1]"])
def test_on_this_machine_it_needs_neither(host: str) -> None:
    assert _node(listen=f"{host}:4222").url == f"nats://{host}:4222"


def test_peers_show_each_other_that_one_authority_signed_them(tls: TlsFiles) -> None:
    cluster = _settings(_node(peers=THREE, token="secret", tls=tls))["cluster"]
    assert cluster["tls"]["verify"] is True


def test_a_file_of_tls_that_is_missing_is_named(tls: TlsFiles) -> None:
    tls.key.unlink()
    with pytest.raises(ConfigurationError, match=f"there is no file {tls.key}"):
        _node(tls=tls)


def test_the_token_is_shown_nowhere_but_in_the_url(tls: TlsFiles) -> None:
    node = _node(peers=THREE, token="s3cret/?", tls=tls)
    assert node.url.startswith("nats://s3cret%2F%3F@127.0.0.1:4222,")
    assert node.store_url("bank").endswith(f"/bank?replicas=3&sync=always&tls_ca={tls.authority}")
    assert node.cluster_url("bank").endswith(f"/bank?replicas=3&tls_ca={tls.authority}")
    configuration = node.plan.configuration(node.data, node.files)
    shown = f"{node!r} {node.plan!r} {configuration!r} {configuration.routes!r} {node.plan.shown_url}"
    assert "s3cret" not in shown
    assert configuration.routes is not None
    assert configuration.routes.secret not in shown
