"""Hosts in namespaces can be cut off, also in one direction only, and vanish."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.faults.cluster.network import Namespaces
from tests.faults.cluster.required import need_namespaces

SENDS = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', (sys.argv[1], 9))"
HEARS = (
    "import select, socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9))\n"
    "print('ready', flush=True); input()\n"
    "print(s.recv(1).decode() if select.select([s], [], [], 0.5)[0] else 'nothing')"
)


@pytest.fixture
def network() -> Iterator[Namespaces]:
    need_namespaces()
    network = Namespaces(2)
    yield network
    network.close()


def hears(network: Namespaces, receiver: int) -> bool:
    """Whether a host hears what the other one says."""
    sender = 1 - receiver
    listening = subprocess.Popen(
        [*network.inside(receiver), sys.executable, "-c", HEARS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout is not None
    assert listening.stdout.readline() == "ready\n"
    to = network.endpoint(receiver).partition(":")[0]
    subprocess.run(
        [*network.inside(sender), sys.executable, "-c", SENDS, to], check=False, capture_output=True
    )
    return listening.communicate("it was sent\n")[0] == "x\n"


def test_a_host_that_is_cut_off_hears_nobody_until_it_is_connected_again(network: Namespaces) -> None:
    assert hears(network, 0)
    network.cut_off(0)
    assert not hears(network, 0)
    assert not hears(network, 1)
    network.reconnect(0)
    assert hears(network, 0)


def test_what_is_lost_in_one_direction_arrives_in_the_other(network: Namespaces) -> None:
    assert hears(network, 0)
    network.lose(1, 0)
    assert not hears(network, 0)
    assert hears(network, 1)
    network.lose_no_more(1, 0)
    assert hears(network, 0)
