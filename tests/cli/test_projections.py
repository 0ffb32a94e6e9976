"""`rehydrate projections` and `rehydrate subscriptions`: what they show, and what they do to consumers that run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rehydrate import App, EventEnvelope, Limits, Park, Projection, Runtime, Subscription, open_store
from rehydrate.cli.moving.consumers import ConsumerCopy
from rehydrate.cli.moving.copying import EventCopy
from rehydrate.runtime.claim import CLAIM
from rehydrate.testing.clock import until
from tests.bank import Deposit, Event, account
from tests.cli.terminal import BANK, as_input, deposit, typed
from tests.readside.ledger import Balance, account_id, add, balances
from tests.readside.ledger import app as ledger

LEDGER = "tests.readside.ledger:app"
OTHERS = "tests.cli.test_projections:others"
PARKING = "tests.cli.test_projections:parking"

fails = False


async def handler(envelope: EventEnvelope[Event]) -> None:
    if fails and envelope.aggregate_id.startswith("a"):
        raise RuntimeError("cannot")


parking = App(
    aggregates=[account], subscriptions=[Subscription(name="mail", handler=handler, on_error=Park())]
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/bank.db"
    typed(
        "run", BANK, "--store", url, stdin=as_input([deposit("ada", 5), deposit("bob", 7), deposit("ada", 1)])
    )
    return url


@pytest.fixture
async def with_parked(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("tests.cli.test_projections.fails", True)
    async with parking.open(url) as bank:
        await until(lambda: bank.statistics().consumers[0].parked == 2)
    return url


def listed(url: str, kind: str = "projections") -> list[dict[str, Any]]:
    return typed(kind, "list", "--store", url).answers


def state(bank: Runtime) -> str:
    return bank.statistics().consumers[0].state


def test_a_projection_is_built_before_any_process_runs_it(url: str) -> None:
    ended = typed("projections", "build", LEDGER, "--store", url)
    assert (ended.code, ended.stdout) == (0, "")
    assert "balances@1: built" in ended.stderr
    (row,) = listed(url)
    assert row["seconds"] == row["rate"] == 0
    del row["seconds"], row["rate"]
    assert row == {
        "name": "balances", "revision": 1, "position": 3, "behind": 0, "state": "idle", "parked": 0, "handled": 3,
        "reason": "",
    }  # fmt: skip


def test_without_a_command_they_are_listed(url: str) -> None:
    typed("projections", "build", LEDGER, "--store", url)
    ended = typed("projections", "--store", url)
    assert [row["name"] for row in ended.answers] == ["balances"]
    assert typed("subscriptions", "--store", url).stderr.endswith("has no subscriptions\n")
    assert "say which store" in typed("projections").stderr


def test_an_unknown_projection_is_one_sentence(url: str) -> None:
    ended = typed("projections", "build", LEDGER, "nobody", "--store", url)
    assert (ended.code, ended.stderr) == (
        1,
        "rehydrate: no projection 'nobody' in this App (it has: balances)\n",
    )
    ended = typed("projections", "pause", "nobody", "--store", url)
    assert ended.code == 1
    assert "has no consumer 'nobody'" in ended.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mongodb", "nats"])
async def test_where_there_is_no_store_none_is_made_to_build_in(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "nothing.db"
    url = f"sqlite:///{file}" if kind == "sqlite" else str(request.getfixturevalue(f"{kind}_url"))
    commands = [("projections", "build", LEDGER), ("subscriptions", "replay", PARKING, "mail")]
    for command in commands:
        # Also the second finds nothing.
        ended = await _typed(*command, "--store", url)
        assert (ended.code, ended.stdout) == (1, "")
        assert "there is no" in ended.stderr or "holds no store" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert not file.exists()


def test_how_far_behind_one_is(url: str) -> None:
    typed("projections", "build", LEDGER, "--store", url)
    typed("run", BANK, "--store", url, stdin=as_input([deposit("ada", 5)] * 4))
    (row,) = listed(url)
    assert (row["position"], row["behind"]) == (3, 4)
    assert row["seconds"] > 0


async def test_a_pause_reaches_who_runs_it_and_nothing_changes_until_it_is_resumed(url: str) -> None:
    async with ledger.open(url, limits=Limits(takeover_after=0.4)) as bank:
        await until(lambda: state(bank) == "running")
        assert (await _typed("projections", "pause", "balances", "--store", url)).code == 0
        await until(lambda: state(bank) == "paused")
        await bank.dispatch(account, "ada", Deposit(9))
        assert (await _listed(url))[0]["state"] == "paused"
        assert await bank.view(balances, "ada") == Balance(6, 2)
        await _typed("projections", "resume", "balances", "--store", url)
        assert await bank.view(balances, "ada", at_least=4) == Balance(15, 3)


async def test_a_reset_makes_who_runs_it_build_it_again(url: str) -> None:
    async with ledger.open(url, limits=Limits(takeover_after=0.4)) as bank:
        assert await bank.view(balances, "ada", at_least=3) == Balance(6, 2)
        epoch = (await bank.store.load_checkpoint("balances@1")).epoch  # type: ignore[union-attr]
        assert (await _typed("projections", "reset", "balances@1", "--store", url)).code == 0

        async def is_again() -> bool:
            place = await bank.store.load_checkpoint("balances@1")
            return place is not None and place.epoch > epoch + 1 and place.position == 3

        while not await is_again():
            pass
        assert await bank.view(balances, "ada") == Balance(6, 2)


async def test_what_somebody_runs_is_not_removed_under_his_hands(url: str) -> None:
    async with ledger.open(url) as bank:
        await until(lambda: state(bank) == "running")
        ended = await _typed("projections", "remove", "balances", "--store", url)
        assert ended.code == 1
        assert "end that process, or pause the consumer first" in ended.stderr
    assert (await _typed("projections", "remove", "balances", "--store", url)).code == 0
    store = await open_store(url)
    try:
        assert await store.list_checkpoints() == []
    finally:
        await store.close()


async def test_a_consumer_is_steered_by_the_command_of_its_kind_only(with_parked: str) -> None:
    for action in ("pause", "reset", "remove", "parked"):
        ended = await asyncio.to_thread(typed, "projections", action, "mail", "--store", with_parked)
        assert ended.code == 1
        assert (
            ended.stderr == "rehydrate: 'mail' is one of the subscriptions: say rehydrate subscriptions ...\n"
        )
    (mail,) = await asyncio.to_thread(listed, with_parked, "subscriptions")
    assert mail["parked"] == 2


def test_the_progress_of_a_run_is_no_consumer_and_a_claim_is_none(url: str) -> None:
    typed("run", BANK, "--store", url, "--run", "nightly", stdin=deposit("ada", 1))
    typed("projections", "build", LEDGER, "--store", url)
    assert listed(url, "processes") == listed(url, "subscriptions") == []
    for kind, name in (("processes", "run:nightly"), ("subscriptions", f"{CLAIM}{balances.consumer}")):
        ended = typed(kind, "remove", name, "--store", url)
        assert ended.code == 1
        assert "no consumer" in ended.stderr
    again = typed("run", BANK, "--store", url, "--run", "nightly", stdin=deposit("ada", 1))
    assert "there was nothing to do" in again.stderr


def test_of_several_revisions_one_has_to_be_named(url: str) -> None:
    typed("projections", "build", LEDGER, "--store", url)
    typed("projections", "build", "tests.cli.test_projections:newer", "--store", url)
    ended = typed("projections", "remove", "balances", "--store", url)
    assert ended.code == 1
    assert "has several revisions: say which one, balances@1 or balances@2" in ended.stderr
    assert typed("projections", "remove", "balances@1", "--store", url).code == 0
    assert [row["revision"] for row in listed(url)] == [2]


newer = App(
    aggregates=[account],
    projections=[
        Projection(
            name="balances", initial=Balance(), key=account_id, evolve=add, sources=[account], revision=2
        )
    ],
)


@dataclass(frozen=True)
class Other(Balance):
    name: str = ""


def keeps(other: Other, envelope: EventEnvelope[Event]) -> Other:
    return other


others = App(
    aggregates=[account],
    projections=[
        Projection(name="balances", initial=Other(), key=account_id, evolve=keeps, sources=[account])
    ],
)
OF_ANOTHER_TYPE = (
    "projection 'balances': the type of its views is another than the one that is stored; declare revision=2, which is "
    "built beside this one"
)


async def test_views_of_another_type_are_said_before_any_process_runs_them(url: str) -> None:
    await _typed("projections", "build", LEDGER, "--store", url)
    async with ledger.open(url) as bank:
        await until(lambda: state(bank) == "running")
        await _is_of_another_type(url)
    await _is_of_another_type(url)
    async with others.open(url) as bank:
        await until(lambda: state(bank) == "stopped")
        assert bank.statistics().consumers[0].reason == OF_ANOTHER_TYPE


async def _is_of_another_type(url: str) -> None:
    ended = await _typed("projections", "build", OTHERS, "--store", url)
    assert (ended.code, ended.stderr) == (1, f"rehydrate: {OF_ANOTHER_TYPE}\n")
    ended = await _typed("verify", OTHERS, "--store", url)
    assert ended.code == 1
    assert ended.answers == [{"what": "views", "where": "balances@1", "detail": OF_ANOTHER_TYPE}]
    assert (await _typed("verify", LEDGER, "--store", url)).code == 0


def test_one_that_was_built_and_cannot_go_on_is_not_built(url: str) -> None:
    typed("projections", "build", LEDGER, "--store", url)
    typed("run", BANK, "--store", url, stdin=as_input([deposit("ada", 5)]))
    typed("projections", "pause", "balances", "--store", url)
    ended = typed("projections", "build", LEDGER, "--store", url)
    assert (ended.code, ended.stderr) == (1, "rehydrate: projection balances@1 is paused: resume it\n")
    typed("projections", "resume", "balances", "--store", url)
    assert typed("projections", "build", LEDGER, "--store", url).code == 0
    assert listed(url)[0]["position"] == 4


async def test_what_is_parked_is_listed_replayed_and_dropped(
    with_parked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = with_parked
    ended = await _typed("subscriptions", "parked", "mail", "--store", url)
    assert [(row["stream"], row["version"], row["reason"]) for row in ended.answers] == [
        ("bank_account-ada", 1, "RuntimeError: cannot"),
        ("bank_account-ada", 2, ""),
    ]
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url)
    assert (ended.code, ended.stderr) == (1, "rehydrate: mail: 0 events were handled, 2 are parked still\n")
    for action in ("replay", "drop"):
        ended = await _typed("subscriptions", action, PARKING, "mail", "--store", url, "--key", "ada")
        assert (ended.code, ended.stderr) == (
            1,
            "rehydrate: mail has nothing parked under the key 'ada', but under 'bank_account-ada'\n",
        )
    monkeypatch.setattr("tests.cli.test_projections.fails", False)
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url)
    assert (ended.code, ended.stderr) == (0, "rehydrate: mail: 2 events were handled, 0 are parked still\n")
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url)
    assert (ended.code, ended.stderr) == (0, "rehydrate: mail has nothing parked\n")
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url, "--key", "ada")
    assert (ended.code, ended.stderr) == (
        1,
        "rehydrate: mail has nothing parked, so nothing under 'ada' either\n",
    )


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person looks at stdout, on a terminal of 80 columns."""

    def is_not_json(json: bool) -> bool:
        return not json

    monkeypatch.setattr("rehydrate.cli.projections.wants_table", is_not_json)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("on_terminal")
async def test_a_person_sees_why_a_consumer_stands_still_however_narrow_the_terminal_is(url: str) -> None:
    wrong = "the money of this account is gone, " * 4

    async def explode(envelope: EventEnvelope[Event]) -> None:
        raise RuntimeError(wrong)

    exploding = App(aggregates=[account], subscriptions=[Subscription(name="mail", handler=explode)])
    async with exploding.open(url) as bank:
        await until(lambda: state(bank) == "stopped")
    heading, row, *note = (await _typed("subscriptions", "--store", url)).stdout.splitlines()
    assert heading.split() == ["name", "position", "behind", "seconds", "rate/s", "state", "parked"]
    assert len(heading) <= 80
    assert row.split()[0] == "mail"
    assert wrong.strip() in " ".join(note)


@pytest.mark.usefixtures("on_terminal")
async def test_a_person_sees_why_an_event_is_parked(with_parked: str) -> None:
    shown = (await _typed("subscriptions", "parked", "mail", "--store", with_parked)).stdout.splitlines()
    assert shown[0].split() == ["position", "stream", "version", "type", "key"]
    assert [line.strip() for line in shown[2::2]] == ["RuntimeError: cannot", "behind another"]


async def test_one_event_is_counted_as_one_and_only_some_keys_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    deposits = [deposit(f"a{n}", 1) for n in range(7)]
    await asyncio.to_thread(typed, "run", BANK, "--store", url, stdin=as_input(deposits))
    monkeypatch.setattr("tests.cli.test_projections.fails", True)
    async with parking.open(url) as bank:
        await until(lambda: bank.statistics().consumers[0].parked == 7)
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url, "--key", "a0")
    assert ended.stderr.endswith(", 'bank_account-a4' and 2 more\n")
    monkeypatch.setattr("tests.cli.test_projections.fails", False)
    key = ("--key", "bank_account-a0")
    ended = await _typed("subscriptions", "replay", PARKING, "mail", "--store", url, *key)
    assert (ended.code, ended.stderr) == (0, "rehydrate: mail: 1 event was handled, 0 are parked still\n")
    key = ("--key", "bank_account-a1")
    ended = await _typed("subscriptions", "drop", PARKING, "mail", "--store", url, *key)
    assert (ended.code, ended.stderr) == (0, "rehydrate: mail: 1 parked event was dropped\n")


async def test_what_is_parked_is_dropped(with_parked: str) -> None:
    url = with_parked
    key = ("--key", "bank_account-ada")
    ended = await _typed("subscriptions", "drop", PARKING, "mail", "--store", url, *key)
    assert (ended.code, ended.stderr) == (0, "rehydrate: mail: 2 parked events were dropped\n")
    assert (await _typed("subscriptions", "parked", "mail", "--store", url)).stdout == ""
    assert (await _listed(url, "subscriptions"))[0]["parked"] == 0


async def test_a_copy_takes_views_along_and_no_claims(url: str, tmp_path: Path) -> None:
    async with ledger.open(url) as bank:
        await bank.view(balances, "ada", at_least=3)
    source, destination = await open_store(url), await open_store(f"sqlite:///{tmp_path}/copy.db")
    try:
        events = EventCopy(source, destination)
        await events.begin()
        await events.catch_up()
        consumers = ConsumerCopy(source, destination, events.reach)
        await consumers.execute(lambda done, total: None)
        assert consumers.copied == {"balances@1": 2}
        names = [checkpoint.name for checkpoint in await destination.list_checkpoints()]
        assert not [name for name in names if name.startswith(CLAIM)]
        async with ledger.open(destination) as bank:
            done = await bank.dispatch(account, "ada", Deposit(1))
            assert await bank.view(balances, "ada", at_least=done.position) == Balance(7, 3)
    finally:
        await source.close()
        await destination.close()


def test_verify_does_not_count_claims(url: str) -> None:
    typed("projections", "build", LEDGER, "--store", url)
    ended = typed("verify", "--store", url)
    assert ended.code == 0, ended.stderr


async def _typed(*arguments: str) -> Any:
    """A command beside a runtime that this test has open."""
    return await asyncio.to_thread(typed, *arguments)


async def _listed(url: str, kind: str = "projections") -> Any:
    return (await _typed(kind, "list", "--store", url)).answers
