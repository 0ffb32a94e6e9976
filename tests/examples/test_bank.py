"""The bank example: its own tests, and its commands through `rehydrate run`."""

from __future__ import annotations

from examples.bank.test_account import *  # noqa: F403 - the tests of the example are collected here
from examples.bank.test_transfers import *  # noqa: F403
from tests.cli.terminal import ROOT, typed

COMMANDS = ROOT / "examples" / "bank" / "commands.jsonl"


def test_the_commands_of_the_example_run_as_its_page_says() -> None:
    ended = typed("run", "examples.bank.app:app", "--store", "memory://", COMMANDS)
    assert ended.code == 0
    assert [answer.get("version") or answer["rejection"]["type"] for answer in ended.answers] == [
        1, 1, 2, "InsufficientFunds", "AmountNotPositive", 2,
    ]  # fmt: skip
