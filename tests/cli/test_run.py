"""`rehydrate run` without a name: what a line may ask for, and how it is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehydrate.cli.run.lines import MAX_LINE
from tests.cli.terminal import BANK, Ended, as_input, deposit, line, typed, withdraw


def run(*lines: str | bytes, options: tuple[str, ...] = (), store: str = "memory://") -> Ended:
    parts = [each.encode() if isinstance(each, str) else each for each in lines]
    return typed("run", BANK, "--store", store, *options, stdin=b"".join(part + b"\n" for part in parts))


def test_a_command_is_answered_with_version_position_and_events() -> None:
    ended = run(deposit("ada", 100), line("ada", "Split", amount=10, parts=2))
    assert ended.code == 0
    assert ended.answers == [
        {
            "line": 1, "aggregate": "bank_account", "id": "ada", "version": 1, "position": 1,
            "events": [{"type": "Deposited", "data": {"amount": 100}}],
        },
        {
            "line": 2, "aggregate": "bank_account", "id": "ada", "version": 3, "position": 3,
            "events": [{"type": "Deposited", "data": {"amount": 5}}, {"type": "Deposited", "data": {"amount": 5}}],
        },
    ]  # fmt: skip


def test_a_refusal_is_answered_with_its_class_its_facts_and_a_sentence_and_is_no_failure() -> None:
    ended = run(withdraw("ada", 5))
    assert ended.code == 0
    assert ended.answers == [
        {
            "line": 1,
            "aggregate": "bank_account",
            "id": "ada",
            "rejection": {
                "type": "InsufficientFunds",
                "facts": {"balance": 0, "amount": 5},
                "message": "insufficient funds: balance 0, amount 5",
            },
        }
    ]
    assert "1 command in" in ended.stderr
    assert "0 accepted, 1 rejected, 0 failed" in ended.stderr


def test_a_command_that_stores_nothing_is_answered_without_events() -> None:
    assert run(line("ada", "Touch")).answers[0] == {
        "line": 1, "aggregate": "bank_account", "id": "ada", "version": 0, "position": 0, "events": [],
    }  # fmt: skip


def test_the_summary_says_that_a_second_run_would_do_everything_again() -> None:
    assert "the same call again would do all of this again" in run(deposit("ada", 1)).stderr


def test_a_second_run_without_a_name_does_everything_again(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/bank.db"
    assert run(deposit("ada", 1), store=store).answers[0]["version"] == 1
    assert run(deposit("ada", 1), store=store).answers[0]["version"] == 2


def test_a_command_id_makes_a_line_repeatable(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/bank.db"
    first = run(deposit("ada", 1, command_id="d1"), store=store)
    assert run(deposit("ada", 1, command_id="d1"), store=store).stdout == first.stdout


def test_metadata_is_stored_with_the_events(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/bank.db"
    run(deposit("ada", 1, metadata={"clerk": "eve"}), store=store)
    (event,) = typed("events", "bank_account-ada", "--store", store).answers
    assert event["metadata"]["user"] == {"clerk": "eve"}


MALFORMED = {
    "no JSON": (b"deposit 100 please", "MalformedLineError", "not a command"),
    "a list": (b"[1, 2]", "MalformedLineError", "it must be an object, and is a list"),
    "an id that is a number": (
        b'{"aggregate": "bank_account", "id": 7, "command": "Touch"}', "MalformedLineError", "'id' must be a text, and is a whole number",
    ),
    "an empty id": (b'{"aggregate": "bank_account", "id": "", "command": "Touch"}', "MalformedLineError", "empty"),
    "a misspelt field": (
        b'{"aggregate": "bank_account", "id": "a", "command": "Touch", "comand_id": "1"}',
        "MalformedLineError", "comand_id",
    ),
    "invalid UTF-8": (b'{"aggregate": "bank_account", "id": "\xff", "command": "Touch"}', "MalformedLineError", "it is not UTF-8"),
    "half a surrogate": (
        rb'{"aggregate": "bank_account", "id": "\ud800", "command": "Touch"}', "MalformedLineError", "not a command",
    ),
    "brackets without end": (b'{"data":' * 100_000, "MalformedLineError", "not a command"),
    "data of another shape": (
        b'{"aggregate": "bank_account", "id": "a", "command": "Deposit", "data": {"amount": "much"}}',
        "MalformedLineError", "does not fit Deposit",
    ),
    "no data": (
        b'{"aggregate": "bank_account", "id": "a", "command": "Deposit"}', "MalformedLineError", "does not fit Deposit",
    ),
    "another aggregate": (
        b'{"aggregate": "bank", "id": "a", "command": "Touch"}', "UnknownAggregateError", "no aggregate 'bank'",
    ),
    "another command": (
        b'{"aggregate": "bank_account", "id": "a", "command": "Steal"}', "UnknownCommandError", "Steal",
    ),
    "a bug in decide": (
        b'{"aggregate": "bank_account", "id": "a", "command": "Crash", "data": {"where": "decide"}}',
        "ActorCrashedError", "a bug in decide",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
def test_a_line_that_cannot_be_run_is_reported_and_the_rest_continues(what: str) -> None:
    text, error, sentence = MALFORMED[what]
    ended = run(deposit("ada", 1), text, deposit("ada", 2))
    assert ended.code == 1
    assert [answer["line"] for answer in ended.answers] == [1, 2, 3]
    assert ended.answers[1]["error"]["type"] == error
    assert sentence in ended.answers[1]["error"]["message"]
    assert ended.answers[2]["version"] == 2
    assert "rehydrate: line 2: " in ended.stderr
    assert "2 accepted, 0 rejected, 1 failed" in ended.stderr


def test_many_lines_that_cannot_be_run_do_not_bury_the_summary() -> None:
    ended = run(*["x"] * 300)
    assert len(ended.answers) == 300
    assert len(ended.stderr.splitlines()) < 110


def test_a_line_longer_than_any_store_takes_is_reported_with_its_size_and_not_kept() -> None:
    ended = run(b" " * (MAX_LINE + 17), deposit("ada", 1))
    assert f"{MAX_LINE + 17:,} bytes" in ended.answers[0]["error"]["message"]
    assert ended.answers[1]["version"] == 1


def test_a_command_of_a_megabyte_is_run(tmp_path: Path) -> None:
    metadata = {"note": "x" * 1_000_000}
    store = f"sqlite:///{tmp_path}/bank.db"
    assert run(deposit("ada", 1, metadata=metadata), store=store).code == 0
    (event,) = typed("events", "bank_account-ada", "--store", store).answers
    assert event["metadata"]["user"] == metadata


def test_blank_lines_are_counted_and_not_answered() -> None:
    ended = run("", deposit("ada", 1), "   ", "\r", deposit("ada", 2))
    assert ended.code == 0
    assert [answer["line"] for answer in ended.answers] == [2, 5]


def test_carriage_returns_a_byte_order_mark_and_a_missing_last_newline_do_no_harm() -> None:
    text = f"\ufeff{deposit('ada', 1)}\r\n{deposit('ada', 2)}"
    ended = typed("run", BANK, "--store", "memory://", stdin=text.encode())
    assert [answer["version"] for answer in ended.answers] == [1, 2]


def test_no_input_is_no_failure() -> None:
    ended = typed("run", BANK, "--store", "memory://", stdin=b"")
    assert (ended.code, ended.stdout) == (0, "")


def test_a_file_is_read_like_stdin(tmp_path: Path) -> None:
    commands = tmp_path / "commands.jsonl"
    commands.write_text(as_input([deposit("ada", 1)]))
    assert typed("run", BANK, "--store", "memory://", commands).answers[0]["version"] == 1
    dashed = typed("run", BANK, "--store", "memory://", "-", stdin=as_input([deposit("ada", 1)]))
    assert dashed.answers[0]["version"] == 1


@pytest.mark.parametrize("concurrency", [1, 7, 500])
def test_the_lines_of_an_aggregate_run_in_order_and_answers_come_in_the_order_of_the_input(
    concurrency: int, tmp_path: Path
) -> None:
    lines = [deposit(f"a{n % 13}", n) for n in range(1, 301)]
    ended = run(*lines, options=("--concurrency", str(concurrency)), store=f"sqlite:///{tmp_path}/bank.db")
    assert [answer["line"] for answer in ended.answers] == list(range(1, 301))
    seen: dict[str, list[int]] = {}
    for answer in ended.answers:
        assert answer["events"][0]["data"]["amount"] == answer["line"]
        seen.setdefault(answer["id"], []).append(answer["version"])
    assert all(versions == list(range(1, len(versions) + 1)) for versions in seen.values())


def test_strict_stops_at_a_malformed_line_after_all_before_it() -> None:
    ended = run(deposit("ada", 1), "nonsense", deposit("ada", 2), deposit("bob", 2), options=("--strict",))
    assert ended.code == 1
    assert [answer["line"] for answer in ended.answers] == [1, 2]


def test_strict_stops_at_a_line_that_fails_and_not_at_a_refusal() -> None:
    lines = [withdraw("ada", 1), line("ada", "Crash", where="decide"), *[deposit("ada", 1)] * 5_000]
    ended = run(*lines, options=("--strict",))
    assert ended.code == 1
    assert [answer["line"] for answer in ended.answers] == [1, 2]
    assert "rejection" in ended.answers[0]
    assert ended.answers[1]["error"]["type"] == "ActorCrashedError"


def test_more_lines_than_the_backlog_holds_are_run_with_one_aggregate_and_with_many() -> None:
    assert len(run(*[deposit("ada", 1)] * 9_000).answers) == 9_000
    assert len(run(*[deposit(f"a{n}", 1) for n in range(9_000)]).answers) == 9_000
