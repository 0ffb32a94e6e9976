"""The store in NATS over a network that fails, and with a server that dies, stands still and comes back."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.port import Appended, NewEvent, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import HANG_LIMIT, until
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import event, events, fill, ids, lot, sound_log, whole_lots
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.servers import NatsServer

StartNats = Callable[..., NatsServer]


@pytest.fixture
async def proxy(nats_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(nats_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[Store]:
    """Opened by way of the proxy."""
    store = await open_store(f"{proxy.url}?timeout=5")
    yield store
    await store.close()


@pytest.fixture
async def direct(nats_url: str) -> AsyncIterator[Store]:
    """Opened without the proxy."""
    store = await open_store(nats_url)
    yield store
    await store.close()


class Flood:
    """Appends from several tasks until it is told to stop, each sent again until its outcome is known."""

    def __init__(self, store: Store, *, tasks: int = 8) -> None:
        self.acked: dict[str, Appended] = {}
        self.errors: list[StoreError] = []
        self._store = store
        self._stops = False
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(tasks)]

    async def _write(self, task: int) -> None:
        version = n = 0
        while not self._stops:
            n += 1
            name = f"{task}.{n}"
            new = lot(name, n % 3 + 1)
            version = (await self._until_known(f"account-{task}", new, version, name)).version

    async def _until_known(self, stream: str, new: list[NewEvent], version: int, name: str) -> Appended:
        while True:
            try:
                done = await self._store.append(stream, new, expected_version=version)
            except StoreUnavailableError as error:
                self.errors.append(error)
                await asyncio.sleep(0)
            else:
                self.acked[name] = done
                return done

    async def more(self, count: int = 20) -> None:
        """Wait until so many more are acknowledged."""
        there = len(self.acked)
        await until(lambda: len(self.acked) >= there + count or self._failed())
        assert not self._failed(), [task.exception() for task in self._tasks if task.done()]

    def _failed(self) -> bool:
        return any(task.done() for task in self._tasks)

    async def stop(self) -> dict[str, Appended]:
        self._stops = True
        async with asyncio.timeout(HANG_LIMIT):
            await asyncio.gather(*self._tasks)
        return self.acked


async def test_connections_that_are_cut_again_and_again_lose_and_double_nothing(
    proxy: Proxy, store: Store
) -> None:
    flood = Flood(store)
    for _ in range(8):
        await flood.more()
        proxy.cut()
    await flood.more()
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked


@pytest.mark.parametrize("from_client", [True, False], ids=["on the way there", "on the way back"])
async def test_connections_that_break_in_the_middle_of_a_message_lose_and_double_nothing(
    proxy: Proxy, store: Store, *, from_client: bool
) -> None:
    flood = Flood(store)
    for size in (1, 97, 1_501, 7_013):
        await flood.more()
        await proxy.cut_after(size, from_client=from_client).happened()
    await flood.more()
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked


async def test_answers_that_do_not_come_are_asked_for_again_on_a_new_connection(
    proxy: Proxy, store: Store, direct: Store
) -> None:
    """The append arrives, its acknowledgement does not; and others have appended behind it meanwhile."""
    await fill(store, "account-1", 1)
    proxy.stall(to_server=False)
    new = events(2)
    appending = asyncio.create_task(store.append("account-1", new, expected_version=1))
    async with asyncio.timeout(HANG_LIMIT):
        while await direct.versions(["account-1"]) != [3]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await direct.append("account-1", events(1), expected_version=3)
    proxy.cut()
    proxy.go_on()
    done = await appending
    log = await sound_log(direct)
    assert done == Appended(3, log[2].position)
    assert ids(log[1:3]) == ids(new)
    assert len(log) == 4


async def test_while_nothing_answers_calls_end_with_what_is_known(proxy: Proxy, nats_url: str) -> None:
    store = await open_store(f"{proxy.url}?timeout=0.4")
    assert isinstance(store, NatsStore)
    await fill(store, "account-1", 1)
    proxy.refuse()
    proxy.cut()
    await until(lambda: not store._connection.is_connected)
    with pytest.raises(StoreUnavailableError, match="nothing was stored") as unsent:
        await store.append("account-1", events(1), expected_version=1)
    assert (unsent.value.stored, unsent.value.retryable) == (False, True)
    for call in (
        lambda: store.versions(["account-1"]),
        lambda: store.replay("account-1"),
        store.head,
        store.read_all,
        lambda: store.save_snapshot(snapshot("account-1", 1), keep=1),
        lambda: store.save_checkpoint(checkpoint("balances", 1), previous=None),
    ):
        with pytest.raises(StoreUnavailableError):
            await call()
    await proxy.accept()
    async with asyncio.timeout(HANG_LIMIT):
        while True:
            try:
                assert await store.versions(["account-1"]) == [1]
                break
            except StoreUnavailableError:
                await asyncio.sleep(0)
    assert (await store.append("account-1", events(1), expected_version=1)).version == 2
    await store.close()


async def test_an_append_that_may_have_arrived_is_unknown_and_is_told_apart_when_it_is_sent_again(
    proxy: Proxy,
) -> None:
    store = await open_store(f"{proxy.url}?timeout=0.4")
    await fill(store, "account-1", 1)
    proxy.stall(to_server=False)
    new = events(2)
    with pytest.raises(StoreUnavailableError, match="not known whether this append was stored") as unknown:
        await store.append("account-1", new, expected_version=1)
    assert unknown.value.stored is None
    proxy.go_on()
    async with asyncio.timeout(HANG_LIMIT):
        while True:
            try:
                done = await store.append("account-1", new, expected_version=1)
                break
            except StoreUnavailableError:
                await asyncio.sleep(0)
    assert done.version == 3
    assert ids(await sound_log(store))[1:] == ids(new)
    await store.close()


async def test_a_save_of_views_whose_answer_is_lost_is_recognised(proxy: Proxy, store: Store) -> None:
    place = checkpoint("balances", 1)
    views = [ViewChange(f"view {n}", b"1") for n in range(50)]
    assert await store.save_checkpoint(place, previous=None, views=views)
    for position in range(2, 8):
        proxy.stall(to_server=False)
        moved = checkpoint("balances", position)
        saving = asyncio.create_task(
            store.save_checkpoint(
                moved, previous=place, views=[ViewChange(view.key, b"%d" % position) for view in views]
            )
        )
        await asyncio.sleep(0)
        proxy.cut()
        proxy.go_on()
        assert await saving
        place = moved
        assert await store.list_views("balances") == sorted((view.key, b"%d" % position) for view in views)
    assert not await store.save_checkpoint(place, previous=checkpoint("balances", 5))


async def test_whoever_waits_hears_of_appends_after_the_connection_was_lost(
    proxy: Proxy, store: Store, direct: Store
) -> None:
    await fill(direct, "account-1", 1)
    head = await store.head()
    waiting = asyncio.create_task(store.wait(after=head.position))
    await asyncio.sleep(0)
    proxy.cut()
    await fill(direct, "account-1", 1)
    async with asyncio.timeout(HANG_LIMIT):
        while True:
            try:
                await waiting
                break
            except StoreUnavailableError:
                waiting = asyncio.create_task(store.wait(after=head.position))


async def test_closing_ends_in_time_while_nothing_answers(proxy: Proxy) -> None:
    store = await open_store(f"{proxy.url}?timeout=1")
    proxy.stall()
    asking = asyncio.create_task(store.head())
    appending = asyncio.create_task(store.append("account-1", events(1), expected_version=0))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await store.close()
    outcomes = await asyncio.gather(asking, appending, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailableError | StoreClosedError) for outcome in outcomes)
    proxy.go_on()


async def test_a_server_that_is_killed_and_comes_back_has_everything(start_nats: StartNats) -> None:
    server = start_nats()
    store = await open_store(f"{server.fresh_url()}?timeout=5")
    flood = Flood(store)
    for _ in range(3):
        await flood.more(100)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await flood.more()
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked
    await store.close()


async def test_a_server_that_stands_still_is_left_and_nothing_is_lost_or_doubled(
    start_nats: StartNats,
) -> None:
    server = start_nats()
    store = await open_store(f"{server.fresh_url()}?timeout=0.5")
    flood = Flood(store)
    await flood.more()
    server.pause()
    await until(lambda: any(isinstance(error, StoreUnavailableError) for error in flood.errors))
    server.resume()
    await flood.more()
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked
    await store.close()


async def test_a_connection_that_the_server_ends_for_good_is_opened_anew(
    start_nats: StartNats,
) -> None:
    """As it does for a client that breaks its rules; nats-py does not come back from that by itself."""
    server = start_nats()
    store = await open_store(server.fresh_url())
    assert isinstance(store, NatsStore)
    await fill(store, "account-1", 1)
    client = store._connection.client
    await client._send_command(b"NONSENSE\r\n")
    await client._flush_pending()
    await until(lambda: client.is_closed or client.stats["reconnects"])
    new = event()
    assert (await store.append("account-1", [new], expected_version=1)).version == 2
    assert (await sound_log(store))[-1].id == new.id
    await store.close()


async def test_of_appends_submitted_in_one_go_over_a_line_that_breaks_the_first_are_stored_in_their_order(
    proxy: Proxy, store: Store
) -> None:
    """Whoever copies a log builds on it."""
    sent: list[str] = []
    for n in range(12):
        new = [lot(f"{n}.{m}", 1) for m in range(60)]
        appending = [
            asyncio.create_task(store.append(f"account-{n}-{m}", one, expected_version=0))
            for m, one in enumerate(new)
        ]
        if n % 3:
            cut = proxy.cut_after(500 + 1_700 * (n % 4), from_client=n % 2 == 0)
            await cut.happened()
        await asyncio.gather(*appending)
        sent += [one[0].id for one in new]
    assert ids(await sound_log(store)) == sent


async def test_servers_that_let_nobody_in_any_more_are_named_as_the_reason(start_nats: StartNats) -> None:
    server = start_nats()
    store = await open_store(f"{server.fresh_url()}?timeout=1")
    await fill(store, "account-1", 1)
    node = server.nodes[0]
    await asyncio.to_thread(node.stop)
    node.configure(token="another", tls=None, others=[], settings={})
    await asyncio.to_thread(node.start)
    with pytest.raises(StoreUnavailableError, match=r"not connected .*Authorization Violation") as refused:
        async with asyncio.timeout(HANG_LIMIT):
            await store.append("account-1", events(1), expected_version=1)
    assert refused.value.stored is False
    assert "test@" not in str(refused.value)
    await store.close()
