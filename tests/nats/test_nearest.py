"""Which of several servers a client tries first."""

from __future__ import annotations

import socket

import pytest

from rehydrate.nats.nearest import is_here, nearest_first

ELSEWHERE = "203.0.113.1"
"""An address for examples (RFC 5737), of a block that no test machine was seen in."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", socket.gethostname()])
def test_a_machine_knows_its_own_addresses_and_its_name(host: str) -> None:
    assert is_here(host)


@pytest.mark.parametrize("host", [ELSEWHERE, "2001:db8::1", "nats.example.com", "", "1.2.3"])
def test_what_is_elsewhere_or_would_have_to_be_looked_up_is_not_here(host: str) -> None:
    assert not is_here(host)


def test_the_server_of_this_machine_comes_first() -> None:
    here, others = "nats://127.0.0.1:4222", [f"nats://203.0.113.{n}:4222" for n in range(1, 9)]
    ordered = nearest_first([*others, here])
    assert ordered[0] == here
    assert sorted(ordered[1:]) == others


def test_others_come_in_any_order() -> None:
    servers = [f"nats://203.0.113.{n}:4222" for n in range(20)]
    assert len({tuple(nearest_first(servers)) for _ in range(20)}) > 1
