"""PostgreSQL behind encryption, behind a pooler, with a replica, and over a network that fails."""

import asyncio
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import trustme

from rehydrate.errors import ConfigurationError, StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.postgres import connection, hints
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.clock import settle, until
from rehydrate.testing.conformance.material import event, events, fill, ids, lot, sound_log, whole_lots
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.servers import PostgresServer
from rehydrate.testing.wire import Message, PostgresWire


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[Store]:
    """Opened by way of the proxy; the connection of its appends is the first one."""
    store = await open_store(proxy.url)
    yield store
    await store.close()


# ---- encryption


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def encrypted(postgres_url: str, authority: trustme.CA) -> AsyncIterator[Proxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]
    async with Proxy(postgres_url, tls=tls) as proxy:
        yield proxy


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_store_is_reached_through_tls(
    encrypted: Proxy, authority: trustme.CA, tmp_path: Path, mode: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names: set[str] = set()
    encrypted.on_message = lambda message: names.add(message.name)
    store = await open_store(f"{encrypted.url}?sslmode={mode}&sslrootcert={tmp_path}/ca.pem")
    await fill(store, "account-1", 2)
    waiting = asyncio.create_task(store.wait(after=2))
    await settle()
    await fill(store, "account-1", 1)
    await waiting
    assert len(await sound_log(store)) == 3
    assert "Bind" in names, "encryption ends at the proxy, so it can read along"
    await store.close()


async def test_a_server_whose_certificate_is_not_to_be_trusted_is_refused(
    encrypted: Proxy, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(ConfigurationError, match="no TLS connection that can be trusted"):
        await open_store(f"{encrypted.url}?sslmode=verify-full&sslrootcert={tmp_path}/other.pem")
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        await open_store(f"{encrypted.url}?sslmode=verify-full&sslrootcert={tmp_path}/none.pem")


async def test_a_server_without_tls_is_refused_where_it_is_required(postgres_url: str) -> None:
    with pytest.raises(ConfigurationError, match="rejected SSL upgrade"):
        await open_store(f"{postgres_url}?sslmode=require")


# ---- a socket in a folder


async def test_a_server_is_reached_by_its_socket(start_postgres: Callable[..., PostgresServer]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        server = start_postgres(settings={"unix_socket_directories": folder})
        password = StoreUrl(server.url).password
        store = await open_store(f"postgresql://postgres:{password}@/postgres?host={folder}:{server.port}")
        assert store.url == "postgresql:///postgres"
        await fill(store, "account-1", 2)
        assert len(await sound_log(store)) == 2
        await store.close()
        await asyncio.to_thread(server.stop)


# ---- poolers


class _Pooler(PostgresWire):
    """A pooler shows its clients a process id of its own."""

    def from_server(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        for name, message in super().from_server(data):
            if name == "BackendKeyData":
                message = message[:5] + (99).to_bytes(4, "big") + message[9:]
            yield name, message


def _pooler(_: str) -> _Pooler:
    return _Pooler()


async def test_behind_a_pooler_a_store_is_refused_with_one_sentence(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.testing.proxy.wire_of", _pooler)
    with pytest.raises(ConfigurationError, match="a pooler stands between") as refused:
        await open_store(proxy.url)
    assert str(StoreUrl(proxy.url).password) not in str(refused.value)


async def test_a_pooler_that_hands_a_statement_to_another_session_is_named(store: Store) -> None:
    """Some poolers pass the process id on; then a prepared statement is missing sooner or later."""
    await fill(store, "account-1", 2)
    await vars(store)["_writer"]._connection.execute("DEALLOCATE ALL")
    with pytest.raises(StoreUnavailableError, match="a pooler stands between") as refused:
        await store.append("account-1", events(1), expected_version=2)
    assert not refused.value.retryable
    assert (await store.append("account-1", events(1), expected_version=2)).version == 3


# ---- a replica


async def test_a_replica_answers_what_may_lag_and_nothing_else(
    start_postgres: Callable[..., PostgresServer],
) -> None:
    primary = start_postgres()
    before = await open_store(primary.url)
    await fill(before, "account-1", 2)
    standby = await asyncio.to_thread(primary.start_standby)
    try:
        async with Proxy(standby.url) as proxy:
            port = proxy.url.partition("@")[2].partition("/")[0].partition(":")[2]
            store = await open_store(f"{primary.url}?replica=127.0.0.1:{port}&poll=0.05")
            on_standby = await asyncpg.connect(standby.url)
            await _replays(store, 2)
            await on_standby.execute("SELECT pg_wal_replay_pause()")

            await fill(store, "account-1", 1)
            await store.append("account-2", events(1), expected_version=0)
            assert (await store.read_all()).position == 2
            assert len((await store.read_stream("account-1", may_lag=True)).events) == 2
            assert [head.version for head in await store.streams()] == [2]
            assert len((await store.read_stream("account-1")).events) == 3
            assert len((await store.replay("account-1")).rows) == 3
            assert await store.versions(["account-1", "account-2"]) == [3, 1]
            assert (await store.head()).position == 4

            asked: list[float] = []
            proxy.on_message = lambda message: (
                asked.append(time.monotonic()) if message.name == "Execute" else None
            )
            waiting = asyncio.create_task(store.wait(after=2))
            await until(lambda: len(asked) >= 2)
            for n in range(3, 6):  # Each is a hint that there is more, and there is not, over there.
                await fill(store, "account-1", 1)
                assert (await store.versions(["account-1"])) == [n + 1]
            begun, when = len(asked), time.monotonic()
            await until(lambda: len(asked) >= begun + 5)
            assert time.monotonic() - when > 3 * 0.05, "it looks from time to time, not all the time"
            assert not waiting.done()

            await on_standby.execute("SELECT pg_wal_replay_resume()")
            await waiting
            await _replays(store, 7)
            assert ids((await store.read_all()).events) == ids(await sound_log(before))
            await on_standby.close()
            await store.close()
    finally:
        await asyncio.to_thread(standby.kill)
        await before.close()


async def _replays(store: Store, position: int) -> None:
    while (await store.read_all()).position < position:  # noqa: ASYNC110 - another server
        await asyncio.sleep(0)


# ---- a network that fails


async def test_an_append_whose_answer_is_lost_is_not_known_and_a_repeat_returns_its_first_result(
    store: Store, proxy: Proxy
) -> None:
    await fill(store, "account-1", 2)
    for n in range(3):
        new = lot(f"lost {n}", 2)
        proxy.lose_answer("Sync")
        with pytest.raises(StoreUnavailableError) as unknown:
            await store.append("account-1", new, expected_version=2 * n + 2)
        assert (unknown.value.stored, unknown.value.retryable) == (None, True)
        first = await store.append("account-1", new, expected_version=2 * n + 2)
        assert first == Appended(2 * n + 4, 2 * n + 4)
        assert await store.append("account-1", new, expected_version=2 * n + 2) == first
    assert len(await sound_log(store)) == 8


async def test_an_append_that_never_arrived_is_not_known_and_is_stored_when_it_is_sent_again(
    store: Store, proxy: Proxy
) -> None:
    await fill(store, "account-1", 2)
    new = lot("cut", 3)
    held = proxy.hold("Bind")
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    await held.reached()
    held.cut()
    with pytest.raises(StoreUnavailableError) as unknown:
        await appending
    assert unknown.value.stored is None
    assert (await store.append("account-1", new, expected_version=2)).version == 5


async def test_an_append_that_lands_after_its_repeat_is_stored_once(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    new = lot("late", 3)
    held = proxy.hold("Bind")
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    await held.reached()
    held.cut_client()
    with pytest.raises(StoreUnavailableError):
        await appending
    first = await store.append("account-1", new, expected_version=2)
    held.release()
    await held.answered()
    assert await store.append("account-1", new, expected_version=2) == first
    assert len(await sound_log(store)) == 5


async def test_an_append_that_lands_late_and_first_is_found_by_its_repeat(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 2)
    new = lot("late", 3)
    held = proxy.hold("Bind")
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    await held.reached()
    held.cut_client()
    with pytest.raises(StoreUnavailableError):
        await appending
    held.release()
    await held.answered()
    assert await store.append("account-1", new, expected_version=2) == Appended(5, 5)
    assert len(await sound_log(store)) == 5


async def test_an_append_that_lands_late_behind_others_is_not_stored(
    store: Store, proxy: Proxy, postgres_url: str
) -> None:
    """Its caller has decided something else meanwhile."""
    await fill(store, "account-1", 2)
    held = proxy.hold("Bind")
    appending = asyncio.create_task(store.append("account-1", lot("late", 3), expected_version=2))
    await held.reached()
    held.cut_client()
    with pytest.raises(StoreUnavailableError):
        await appending
    other = await open_store(postgres_url)
    await other.append("account-1", lot("instead", 1), expected_version=2)
    held.release()
    await held.answered()
    with pytest.raises(VersionConflictError):
        await store.append("account-1", lot("late", 3), expected_version=2)
    assert [one.id for one in await sound_log(store)][2:] == ["instead/0/1"]
    await other.close()


async def test_a_network_that_loses_everything_is_given_up_and_the_store_goes_on_when_it_is_back(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE", 0.2)
    store = await open_store(f"{proxy.url}?statement_timeout=0.3&connect_timeout=0.3&lock_timeout=0.2")
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
        )
    ]
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in failed] == [StoreUnavailableError] * 4
    proxy.cut()
    proxy.go_on()
    done = await _until_answered(store, new, 2)
    assert done.version == 4
    assert [one.id for one in await sound_log(store)][2:] == ids(new)
    await store.close()


async def _until_answered(store: Store, new: list[NewEvent], expected: int) -> Appended:
    while True:
        try:
            return await store.append("account-1", new, expected_version=expected)
        except StoreUnavailableError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.01)


async def test_a_listener_that_hears_nothing_asks_and_listens_anew_if_there_is_no_answer(
    proxy: Proxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE", 0.1)
    monkeypatch.setattr(hints, "MAX_SILENCE", 0.02)
    store = await open_store(f"{proxy.url}?poll=80000&statement_timeout=0.3")
    held = proxy.hold("Query", where=lambda message: message.data.endswith(b"SELECT\0"))
    waiting = asyncio.create_task(store.wait(after=0))
    listener = (await held.reached()).connection
    await until(lambda: any(each.number > listener for each in proxy.connections))
    held.cut()
    other = await open_store(postgres_url)
    await fill(other, "account-1", 1)
    await waiting
    await other.close()
    await store.close()


async def test_of_several_servers_one_that_swallows_everything_is_passed_over(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.stall()
    silent, there = (StoreUrl(url).host for url in (proxy.url, postgres_url))
    for hosts in (f"{silent},{there}", f"{there},{silent}"):
        store = await open_store(f"{postgres_url.replace(there, hosts)}?connect_timeout=0.5")
        (version,) = await store.versions(["account-1"])
        assert (await store.append("account-1", events(1), expected_version=version)).version == version + 1
        await store.close()
    with pytest.raises(StoreUnavailableError, match="does not answer in time"):
        await open_store(f"{proxy.url.replace(silent, f'{silent},{silent}')}?connect_timeout=0.2")


async def test_connections_that_died_unnoticed_are_replaced_unnoticed(store: Store, proxy: Proxy) -> None:
    await fill(store, "account-1", 3)
    await asyncio.gather(*[store.read_all() for _ in range(8)])
    assert len(proxy.connections) == 5
    proxy.cut()
    assert (await store.read_all()).position == 3
    assert (await store.versions(["account-1"])) == [3]
    assert await store.append("account-1", events(1), expected_version=3) == Appended(4, 4)


async def test_appends_cut_at_any_byte_are_stored_once(proxy: Proxy) -> None:
    """Wherever the connection breaks, on the way there or back, a repeat finds out what became of it."""
    store = await open_store(proxy.url)
    await fill(store, "account-1", 2)
    for from_client in (True, False):
        for n, size in enumerate(range(1, 260, 20)):
            version = 2 + n + (0 if from_client else 13)
            proxy.cut_after(size, from_client=from_client)
            done = await _until_answered(store, [event()], version)
            assert done == Appended(version + 1, version + 1)
    assert len(await sound_log(store)) == 28
    await store.close()


async def test_a_flood_through_a_network_that_breaks_again_and_again_is_stored_once(
    store: Store, proxy: Proxy
) -> None:
    passed = cuts = 0

    def cut_now_and_then(message: Message) -> None:
        nonlocal passed, cuts
        passed += message.name in {"Bind", "Execute", "Sync", "DataRow", "ReadyForQuery"}
        if passed > 30 + 6 * cuts:
            passed = 0
            cuts += 1
            proxy.cut()

    async def write(task: int) -> dict[str, Appended]:
        acked: dict[str, Appended] = {}
        for n in range(40):
            name = f"{task}.{n}"
            new = lot(name, n % 3 + 1)
            while name not in acked:
                try:
                    acked[name] = await store.append(f"account-{name}", new, expected_version=0)
                except StoreUnavailableError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(0.01)
        return acked

    proxy.on_message = cut_now_and_then
    acked = await asyncio.gather(*[write(task) for task in range(8)])
    proxy.on_message = lambda _: None
    assert cuts > 3
    assert whole_lots(await sound_log(store)) == {name: one for some in acked for name, one in some.items()}
