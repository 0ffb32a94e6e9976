"""What the matrix takes for a leader: not what a server believes that has only just been started, or elected."""

from __future__ import annotations

import time

import pytest

from tests.faults.cluster.leaders import Look, Took, longest_without, taken_up


def leads(host: str, *times: float) -> list[Look]:
    return [Look(at - 0.01, at, host, frozenset({"events"})) for at in times]


def follows(host: str, *times: float) -> list[Look]:
    return [Look(at - 0.01, at, host, frozenset()) for at in times]


def without(looks: list[Look], **logs: list[Took]) -> float:
    return round(longest_without("events", looks, logs, 10, 20), 2)


def test_who_leads_all_the_time_leads_without_a_word_in_his_log() -> None:
    assert without(leads("n0", 10, 11, 12, 18, 20), n0=[]) == 6


def test_who_was_elected_leads_when_he_has_taken_up_the_work() -> None:
    looks = leads("n0", 10, 11) + follows("n1", 10, 11, 14) + leads("n1", 15, 16, 17, 18, 19, 20)
    assert without(looks, n0=[], n1=[Took(16.5, "events")]) == 5.5
    assert without(looks, n0=[], n1=[Took(3, "events"), Took(16.5, "others")]) == 9


def test_who_was_started_anew_does_not_lead_because_he_says_so() -> None:
    looks = leads("n0", 10, 11, 15, 16, 17, 18, 19, 20)
    assert without(looks, n0=[Took(9, ""), Took(14, ""), Took(18.2, "events")]) == 7.2
    assert without(looks[2:], n0=[Took(14, ""), Took(18.2, "events")]) == 8.2


def test_of_hosts_that_are_cut_off_nothing_counts() -> None:
    assert without(leads("n0", *range(10, 21)), n1=[]) == 10


def test_the_log_of_a_server_is_read_by_the_clock_of_the_test() -> None:
    now = time.time()
    at = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06}"
    log = f"""\
[7] {at} [INF] Starting nats-server
[7] {at} [INF]   Version:  2.15.1
[7] {at} [INF] JetStream cluster new stream leader for '$G > bank-events'
[7] {at} [INF] JetStream cluster new consumer leader for '$G > bank-events > c'
"""
    started, took = taken_up(log)
    assert (started.stream, took.stream) == ("", "bank-events")
    assert started.at == took.at == pytest.approx(time.monotonic(), abs=1)
