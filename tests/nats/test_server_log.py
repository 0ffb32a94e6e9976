"""What a NATS server complains of, in words for whoever runs it."""

from pathlib import Path

import pytest

from rehydrate.nats.log import ServerLog, complaint, reason_of_end

_BEGINNING = "[26910] 2026/11/28 11:41:20.021227 "


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            '[ERR] 127.0.0.1:54376 - rid:22 - authentication error - User "node"',
            "give all nodes the same token",
        ),
        (
            "[ERR] 127.0.0.1:27983 - rid:25 - Route Error 'Authorization Violation'",
            "give all nodes the same token",
        ),
        (
            '[ERR] 127.0.0.1:1 - rid:29 - Rejecting connection, cluster name "test" does not match "other"',
            "a peer belongs to the cluster 'test', and this node to 'other'",
        ),
        (
            '[ERR] 127.0.0.1:37890 - rid:18 - Remote server has a duplicate name: "n1"',
            "there is another node named 'n1'",
        ),
        (
            "[ERR] 127.0.0.1:1 - rid:7 - TLS route handshake error: remote error: tls: bad certificate",
            "TLS failed",
        ),
        (
            "[ERR] JetStream stream '$G > bank-events' critical write error: write /data/1.blk: no space left on device",
            "its disk is full",
        ),
        ("[WRN] JetStream out of space", "nats-server says: JetStream out of space"),
        (
            "[WRN] Filestore [S] Recovering stream state from index errored: corrupt",
            "nats-server says: Filestore [S] Recovering",
        ),
    ],
)
def test_a_complaint_says_what_to_do(line: str, sentence: str) -> None:
    assert sentence in (complaint(_BEGINNING + line) or "")


@pytest.mark.parametrize(
    "line",
    [
        "[INF] Server is ready",
        "[ERR] Error trying to connect to route (attempt 1): dial tcp 127.0.0.1:26223: connect: connection refused",
        "[WRN] Waiting for routing to be established...",
        "[WRN] Filestore [_meta_] Stream state outdated, last block has additional entries, will rebuild",
        "[WRN] Filestore [_meta_] Recovering stream state from index errored: prior state file",
        "[WRN] Filestore [KV_bank] TTL state is outdated; attempting to recover using linear scan (seq 1 to 378)",
        "[WRN] Metalayer blocking snapshot took 0.003s (streams: 4, consumers: 0, compacted: 4.38 KB)",
        "no line of a log",
    ],
)
def test_what_is_no_complaint_is_not_passed_on(line: str) -> None:
    assert complaint(_BEGINNING + line) is None
    assert complaint(line) is None


def test_the_reason_of_an_end_is_what_was_fatal() -> None:
    fatal = (
        _BEGINNING + "[FTL] Error listening on port: listen tcp 127.0.0.1:4222: bind: address already in use"
    )
    assert "another program listens on 127.0.0.1:4222" in reason_of_end([fatal, "more"])
    elsewhere = _BEGINNING + "[FTL] listen tcp 10.9.9.9:4222: bind: cannot assign requested address"
    assert "10.9.9.9:4222 is no address of this machine" in reason_of_end([elsewhere])
    assert reason_of_end(["panic: oh", ""]) == "panic: oh"
    assert reason_of_end([]) == "it says nothing of why"


def test_a_log_is_read_from_its_end_on_and_from_its_beginning_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n", "utf-8")
    log = ServerLog(path)
    assert log.more() == []
    with path.open("a", encoding="utf-8") as file:
        file.write("one\ntw")
    assert log.more() == ["one"]
    with path.open("a", encoding="utf-8") as file:
        file.write("o\n")
    assert log.more() == ["two"]
    path.write_text("new\n", "utf-8")
    assert log.more() == ["new"]
    path.unlink()
    assert log.more() == []
    assert ServerLog(tmp_path / "none").more() == []
