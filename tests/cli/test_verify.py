"""`rehydrate verify`: what it finds, each kind planted in a store by hand."""

from __future__ import annotations

import math
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rehydrate import App, Snapshot, StoreUnavailableError, open_store
from rehydrate.cli.verification import MAX_FINDINGS, Finding, Verification
from rehydrate.store.memory import Memory, MemoryStore
from rehydrate.store.port import Checkpoint, NewEvent, StoredEvent
from tests.bank import Deposit, bank_account
from tests.cli.terminal import BANK, as_input, deposit, typed

account = bank_account(snapshot=Snapshot(every=2), passivate_after=math.inf)
app = App(aggregates=[account])


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    """Three events of ada with a snapshot of the second, two of bob, and a checkpoint at the fourth."""
    opened = await open_store("memory://planted")
    async with app.open(opened) as bank:
        for id in ("ada", "ada", "bob", "ada", "bob"):
            await bank.dispatch(account, id, Deposit(5))
    fourth = (await opened.read_all(after=3, limit=1)).events[0]
    place = Checkpoint(name="reader", position=4, event_id=fourth.id, epoch=1)
    assert await opened.save_checkpoint(place, previous=None)
    assert isinstance(opened, MemoryStore)
    yield opened
    await opened.close()


def inside(store: MemoryStore) -> Memory:
    memory: Memory = vars(store)["_opened"]
    return memory


def is_not_json(json: bool) -> bool:
    return not json


async def findings(store: MemoryStore, app: App | None = None) -> list[Finding]:
    verification = Verification(store, app, lambda done, total: None)
    await verification.check()
    assert verification.found == len(verification.findings)
    return verification.findings


def change(store: MemoryStore, at: int, **fields: Any) -> StoredEvent:
    """Change an event in the log and in its stream."""
    memory = inside(store)
    old = memory.log[at - 1]
    new = msgspec.structs.replace(old, **fields)
    memory.log[at - 1] = new
    stream = memory.streams[old.stream]
    stream[stream.index(old)] = new
    return new


async def test_a_sound_store_has_no_findings(store: MemoryStore) -> None:
    assert await findings(store) == []
    assert await findings(store, app) == []


async def test_an_empty_store_has_no_findings() -> None:
    empty = await open_store("memory://")
    assert isinstance(empty, MemoryStore)
    assert await findings(empty, app) == []


async def test_a_gap_in_the_versions_is_found(store: MemoryStore) -> None:
    change(store, 4, version=5)
    assert Finding("version", "bank_account-ada", "version 5 comes after version 2") in await findings(store)


async def test_positions_that_do_not_increase_are_found(store: MemoryStore) -> None:
    change(store, 3, position=2)
    assert Finding("position", "bank_account-bob", "position 2 comes after position 2") in await findings(
        store
    )


def lose_from_stream(store: MemoryStore) -> None:
    inside(store).streams["bank_account-bob"].pop()


def lose_from_log(store: MemoryStore) -> None:
    del inside(store).log[0]


def change_in_stream(store: MemoryStore) -> None:
    stream = inside(store).streams["bank_account-bob"]
    stream[0] = msgspec.structs.replace(stream[0], data=b'{"amount":500}')


def forget_stream(store: MemoryStore) -> None:
    del inside(store).streams["bank_account-bob"]


@pytest.mark.parametrize("harm", [lose_from_stream, lose_from_log, change_in_stream, forget_stream])
async def test_a_stream_that_is_not_what_the_log_shows_is_found(
    store: MemoryStore, harm: Callable[[MemoryStore], None]
) -> None:
    harm(store)
    assert {finding.what for finding in await findings(store)} >= {"stream"}


async def test_a_head_that_is_not_the_end_of_the_log_is_found(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await store.head()

    async def too_far() -> Any:
        return msgspec.structs.replace(head, position=head.position + 1)

    monkeypatch.setattr(store, "head", too_far)
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", ())
    with pytest.raises(
        StoreUnavailableError, match="shows no event behind position 5, and its newest one is at 6"
    ):
        await findings(store)


@pytest.mark.parametrize(
    ("position", "event_id"), [(4, "another"), (3, "its own"), (9, "its own"), (0, "its own")]
)
async def test_a_checkpoint_whose_event_the_log_does_not_hold_there_is_found(
    store: MemoryStore, position: int, event_id: str
) -> None:
    there = inside(store).checkpoints["reader"]
    event_id = there.event_id if event_id == "its own" else event_id
    inside(store).checkpoints["reader"] = msgspec.structs.replace(there, position=position, event_id=event_id)
    (finding,) = await findings(store)
    assert (finding.what, finding.where) == ("checkpoint", "reader")


async def test_an_event_that_does_not_decode_is_found_with_the_app_only(store: MemoryStore) -> None:
    change(store, 3, data=b'{"amount":"much"}')
    assert await findings(store) == []
    (finding,) = await findings(store, app)
    assert (finding.what, finding.where) == ("event", "bank_account-bob")
    assert "version 1 (Deposited) cannot be decoded" in finding.detail


async def test_an_event_of_a_type_that_is_not_declared_is_found(store: MemoryStore) -> None:
    change(store, 3, type="Stolen")
    (finding,) = await findings(store, app)
    assert "version 1: no event of type 'Stolen' is declared (declared: Cursed, D" in finding.detail
    change(store, 3, type="Deposited@2")
    (finding,) = await findings(store, app)
    assert "as revision 2 of Deposited, of which this code knows 1; deploy that code" in finding.detail


async def test_an_event_that_cannot_be_folded_is_found(store: MemoryStore) -> None:
    change(store, 3, type="Cursed", data=b"{}")
    (finding,) = await findings(store, app)
    assert "version 1 (Cursed) cannot be folded: RuntimeError" in finding.detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"data": b'{"balance":9,"changes":2}'}, "it differs from the fold of the events"),
        ({"event_id": "another"}, "the stream holds another event at that version"),
        ({"version": 7}, "the stream ends at version 3"),
        ({"data": b"?"}, "it cannot be decoded"),
    ],
)
async def test_a_snapshot_that_is_not_the_fold_is_found(
    store: MemoryStore, fields: dict[str, Any], detail: str
) -> None:
    saved = inside(store).snapshots["bank_account-ada"]
    saved[-1] = msgspec.structs.replace(saved[-1], **fields)
    (finding,) = await findings(store, app)
    assert (finding.what, finding.where) == ("snapshot", "bank_account-ada")
    assert detail in finding.detail


@pytest.mark.parametrize("fields", [{"schema": 2}, {"fingerprint": "other"}])
async def test_a_snapshot_that_the_code_of_today_ignores_is_none(
    store: MemoryStore, fields: dict[str, Any]
) -> None:
    saved = inside(store).snapshots["bank_account-ada"]
    saved[-1] = msgspec.structs.replace(saved[-1], data=b"?", **fields)
    assert await findings(store, app) == []


async def test_streams_of_other_aggregates_are_counted_and_not_decoded(store: MemoryStore) -> None:
    await store.append("shop-1", [NewEvent("s1", "Opened", b"?")], expected_version=0)
    verification = Verification(store, app, lambda done, total: None)
    await verification.check()
    assert (verification.found, verification.not_decoded) == (0, {"shop": 1})


async def test_findings_are_counted_beyond_those_that_are_kept(store: MemoryStore) -> None:
    memory = inside(store)
    for number in range(MAX_FINDINGS + 10):
        memory.checkpoints[f"c{number}"] = Checkpoint(name=f"c{number}", position=1, event_id="none", epoch=1)
    verification = Verification(store, None, lambda done, total: None)
    await verification.check()
    assert verification.found == MAX_FINDINGS + 10
    assert len(verification.findings) == MAX_FINDINGS


def test_a_sound_file_ends_well(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    typed(
        "run",
        BANK,
        "--store",
        url,
        "--run",
        "import",
        stdin=as_input(deposit(f"a{n % 7}", n) for n in range(1, 2_500)),
    )
    ended = typed("verify", "--store", url, BANK)
    assert (ended.code, ended.stdout) == (0, "")
    assert "2,499 events in 7 streams, 1 checkpoint: all is well" in ended.stderr
    assert "nothing was decoded" in typed("verify", "--store", url).stderr


async def test_aggregates_that_the_app_does_not_have_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    opened = await open_store(url)
    for stream in ("shop-1", "shop-2", "till-1", *(f"of{n}-1" for n in range(10))):
        await opened.append(stream, [NewEvent(stream, "Opened", b"?")], expected_version=0)
    await opened.close()
    ended = await to_thread(typed, "verify", "--store", url, BANK)
    assert ended.code == 0
    assert "; not decoded: shop (2 streams), till (1 stream), of0 (1 stream), " in ended.stderr
    assert ended.stderr.endswith(" and 2 other aggregates, for this App does not have them: all is well\n")


async def test_findings_are_listed_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    opened = await open_store(url)
    await opened.append("bank_account-[ada]", [NewEvent("e1", "Deposited", b"?")], expected_version=0)
    await opened.close()
    ended = await to_thread(typed, "verify", "--store", url, BANK)
    assert ended.code == 1
    (finding,) = ended.answers
    assert finding["what"] == "event"
    assert "1 finding" in ended.stderr
    monkeypatch.setattr("rehydrate.cli.program.wants_table", is_not_json)
    shown = await to_thread(typed, "verify", "--store", url, BANK)
    assert "bank_account-[ada]" in shown.stdout
    assert "detail" in shown.stdout
