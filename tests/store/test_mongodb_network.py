"""MongoDB behind encryption, over a network that fails, and with writers that stand still in the middle."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from rehydrate.errors import StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, NewEvent, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import event, fill, ids, lot, sound_log, whole_lots
from rehydrate.testing.conformance.worker import AppendOnce
from rehydrate.testing.conformance.writers import Writers
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message

PATIENCE = 4.0
"""Seconds within which others have to go on."""


@pytest.fixture
async def proxy(mongodb_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(mongodb_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[Store]:
    """Opened by way of the proxy."""
    store = await open_store(proxy.url)
    yield store
    await store.close()


@pytest.fixture
async def direct(mongodb_url: str) -> AsyncIterator[Store]:
    """Opened without the proxy."""
    store = await open_store(mongodb_url)
    yield store
    await store.close()


@pytest.fixture
async def writers(proxy: Proxy) -> AsyncIterator[Writers]:
    writers = Writers("rehydrate.store.url:open_store", proxy.url)
    yield writers
    await writers.kill_all()


# ---- encryption


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def encrypted(mongodb_url: str, authority: trustme.CA) -> AsyncIterator[Proxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]
    async with Proxy(mongodb_url, tls=tls) as proxy:
        yield proxy


async def test_a_store_is_reached_through_tls(
    encrypted: Proxy, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names: set[str] = set()
    encrypted.on_message = lambda message: names.add(message.name)
    store = await open_store(f"{encrypted.url}&tls=true&tlsCAFile={tmp_path}/ca.pem")
    await fill(store, "account-1", 2)
    assert len(await sound_log(store)) == 2
    assert "insert" in names, "encryption ends at the proxy, so it can read along"
    await store.close()


async def test_a_server_whose_certificate_is_not_to_be_trusted_is_not_talked_to(
    encrypted: Proxy, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as refused:
        await open_store(f"{encrypted.url}&tls=true&tlsCAFile={tmp_path}/other.pem&timeout=0.5")
    assert refused.value.retryable


# ---- a network that fails


async def test_an_append_whose_answer_is_lost_returns_its_first_result(store: Store, proxy: Proxy) -> None:
    """The store sends it again by itself, over another connection, and finds that it is there."""
    await fill(store, "account-1", 2)
    for n in range(3):
        new = lot(f"lost {n}", 2)
        lost = proxy.lose_answer("update")
        expected = 2 * n + 2
        assert await store.append("account-1", new, expected_version=expected) == Appended(
            expected + 2, expected + 2
        )
        assert lost.has_happened
        assert await store.append("account-1", new, expected_version=expected) == Appended(
            expected + 2, expected + 2
        )
    assert len(await sound_log(store)) == 8


async def test_an_append_whose_answers_are_lost_again_and_again_is_not_known(
    store: Store, proxy: Proxy
) -> None:
    await fill(store, "account-1", 2)
    new, other = lot("lost", 2), lot("other", 1)
    proxy.lose_answer("update")
    proxy.lose_answer("aggregate")
    outcomes = await asyncio.gather(
        store.append("account-1", new, expected_version=2),
        store.append("account-2", other, expected_version=7),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError, VersionConflictError]
    assert isinstance(outcomes[0], StoreUnavailableError)
    assert (outcomes[0].stored, outcomes[0].retryable) == (None, True)
    assert await store.append("account-1", new, expected_version=2) == Appended(4, 4)
    assert len(await sound_log(store)) == 4


async def test_an_append_that_never_arrived_is_sent_again(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    held = proxy.hold("update")
    appending = asyncio.create_task(store.append("account-1", lot("cut", 3), expected_version=2))
    await held.reached()
    held.cut()
    assert await appending == Appended(5, 5)
    assert len(await sound_log(store)) == 5


async def test_an_append_that_lands_after_its_repeat_is_stored_once(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    new = lot("late", 3)
    held = proxy.hold("update")
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    await held.reached()
    held.cut_client()
    first = await appending
    assert first == Appended(5, 5)
    held.release()
    await held.answered()
    assert await store.append("account-1", new, expected_version=2) == first
    assert len(await sound_log(store)) == 5


async def test_an_append_that_lands_late_and_first_is_found_by_its_repeat(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    new = lot("late", 3)
    held = proxy.hold("update")
    again = proxy.hold("listCollections")
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    await held.reached()
    held.cut_client()
    await again.reached()
    held.release()
    await held.answered()
    again.release()
    assert await appending == Appended(5, 5)
    assert len(await sound_log(store)) == 5


async def test_an_append_that_lands_late_behind_others_is_not_stored(
    store: Store, proxy: Proxy, direct: Store
) -> None:
    """Its caller has decided something else meanwhile."""
    await fill(store, "account-1", 2)
    held = proxy.hold("update")
    again = proxy.hold("listCollections")
    appending = asyncio.create_task(store.append("account-1", lot("late", 3), expected_version=2))
    await held.reached()
    held.cut_client()
    await again.reached()
    await direct.append("account-1", lot("instead", 1), expected_version=2)
    held.release()
    await held.answered()
    again.release()
    with pytest.raises(VersionConflictError) as conflict:
        await appending
    assert conflict.value.actual == 3
    assert ids(await sound_log(store))[2:] == ["instead/0/1"]


async def test_a_group_of_which_a_part_lands_late_leaves_no_hole(
    store: Store, proxy: Proxy, direct: Store
) -> None:
    await fill(store, "account-0", 2)
    held = proxy.hold("update")
    appending = [
        asyncio.create_task(store.append(f"account-{n}", lot(f"late {n}", 2), expected_version=0))
        for n in range(1, 6)
    ]
    await held.reached()
    held.cut_client()
    await direct.append("account-3", lot("faster", 1), expected_version=0)
    held.release()
    await held.answered()
    outcomes = await asyncio.gather(*appending, return_exceptions=True)
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, True, False, True, True]
    log = await sound_log(store)
    assert [one.position for one in log] == list(range(1, 12))


async def test_a_network_that_loses_everything_is_given_up_and_the_store_goes_on_when_it_is_back(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.store.mongodb.address.ANSWER_LATER_BY", 0.2)
    store = await open_store(f"{proxy.url}&timeout=0.3")
    await fill(store, "account-1", 2)
    await store.read_all()
    proxy.stall()
    new = lot("stalled", 2)
    calls = [
        asyncio.create_task(call)
        for call in (
            store.append("account-1", new, expected_version=2),
            store.versions(["account-1"]),
            store.read_all(),
            store.wait(after=2),
            store.save_checkpoint(checkpoint("balances", 1), previous=None, views=[ViewChange("ada", b"")]),
        )
    ]
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in failed] == [StoreUnavailableError] * 5
    proxy.cut()
    proxy.go_on()
    done = await _until_answered(store, new, 2)
    assert done.version == 4
    assert ids(await sound_log(store))[2:] == ids(new)
    await store.close()


async def test_a_network_that_breaks_after_few_bytes_or_many_is_healed(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    version = 2
    for from_client in (True, False):
        for size in range(1, 2_000, 190):
            proxy.cut_after(size, from_client=from_client)
            done = await _until_answered(store, [event()], version)
            version += 1
            assert done == Appended(version, version)
    assert len(await sound_log(store)) == version


async def test_a_flood_through_a_network_that_breaks_again_and_again_is_stored_once(
    store: Store, proxy: Proxy
) -> None:
    passed = cuts = 0

    def cut_now_and_then(message: Message) -> None:
        nonlocal passed, cuts
        passed += message.name in {"insert", "update", "find", "aggregate", "reply"}
        if passed > 10 + 7 * cuts:
            passed = 0
            cuts += 1
            proxy.cut()

    async def write(task: int) -> dict[str, Appended]:
        acked: dict[str, Appended] = {}
        for n in range(40):
            name = f"{task}.{n}"
            acked[name] = await _until_answered(store, lot(name, n % 3 + 1), 0, f"account-{name}")
        return acked

    proxy.on_message = cut_now_and_then
    acked = await asyncio.gather(*[write(task) for task in range(8)])
    proxy.on_message = lambda _: None
    assert cuts > 3
    assert whole_lots(await sound_log(store)) == {name: one for some in acked for name, one in some.items()}


async def test_a_change_stream_that_broke_is_opened_anew(proxy: Proxy, direct: Store) -> None:
    """Whoever waits would look by himself only after a minute."""
    store = await open_store(f"{proxy.url}&poll=60")
    opened = proxy.hold("getMore")
    waiting = asyncio.create_task(store.wait(after=0))
    await opened.reached()
    again = proxy.hold("getMore")
    opened.cut()
    await again.reached()
    again.release()
    await direct.append("account-1", [event()], expected_version=0)
    async with asyncio.timeout(10):
        await waiting
    await store.close()


async def test_a_checkpoint_whose_answer_is_lost_is_saved_once(store: Store, proxy: Proxy) -> None:
    """A save that is repeated blindly would meet its own place, and take it for somebody else's."""
    previous = None
    saves: list[tuple[str, list[ViewChange]]] = [
        ("insert", []),
        ("update", []),
        ("update", [ViewChange("ada", b"1")]),
        ("commitTransaction", [ViewChange("ada", b"2")]),
    ]
    for n, (command, views) in enumerate(saves, 1):
        lost = proxy.lose_answer(command)
        place = checkpoint("balances", n)
        assert await store.save_checkpoint(place, previous=previous, views=views), command
        assert lost.has_happened
        assert await store.load_checkpoint("balances") == place
        previous = place
    assert await store.list_views("balances") == [("ada", b"2")]


# ---- writers that stand still

FIRST = ("listCollections", "listIndexes", "find", "insert")
"""What the first append of a connection sends."""
CASES = [
    *[pytest.param(0, name, 0.0, id=f"the first append, {name}") for name in FIRST],
    *[pytest.param(2, "update", part, id=f"a later one, update, {part}") for part in (0.0, 0.5, 1.0)],
]


@pytest.mark.parametrize("ends", ["goes on", "is killed, and the rest arrives late"])
@pytest.mark.parametrize(("before", "message", "part"), CASES)
async def test_a_writer_held_in_the_middle_of_its_append_holds_nobody_up(
    direct: Store, proxy: Proxy, writers: Writers, before: int, message: str, part: float, ends: str
) -> None:
    writer = await writers.start()
    for n in range(before):
        await writer.order(_append(f"before {n}", expected=3 * n))
        await writer.answered(f"before {n}")
    held = proxy.hold(message, part=part)
    await writer.order(_append("held", expected=3 * before))
    await held.reached()
    writer.pause()
    landed = part == 1.0

    async with asyncio.timeout(PATIENCE):
        while landed and await direct.versions(["account-1"]) == [3 * before]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0)
        await direct.append("account-2", lot("other", 3), expected_version=0)
        if not landed:
            await direct.append("account-1", lot("faster", 2), expected_version=3 * before)
        await direct.append("account-2", lot("again", 3), expected_version=3)

    if ends == "goes on":
        writer.resume()
        held.release()
        await writer.answered("held")
        assert ("held" in writer.acked) == landed
        await writer.stop()
    else:
        await writer.kill()
        held.release()
    await until(lambda: not proxy.connections)
    lots = whole_lots(await sound_log(direct))
    assert ("held" in lots) == landed
    assert writer.acked.items() <= lots.items()


def _append(name: str, *, expected: int) -> AppendOnce:
    return AppendOnce(
        name=name, stream="account-1", ids=[new.id for new in lot(name, 3)], expected_version=expected
    )


async def _until_answered(
    store: Store, new: list[NewEvent], expected: int, stream: str = "account-1"
) -> Appended:
    while True:
        try:
            return await store.append(stream, new, expected_version=expected)
        except StoreUnavailableError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.01)
