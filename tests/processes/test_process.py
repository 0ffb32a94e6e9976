"""Process managers: what follows from events is sent, once; what is refused comes back; what cannot be sent waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from examples.bank.account import Account, Close, Deposit, Withdraw
from examples.bank.app import app, bank_account, money_transfer
from examples.bank.transfer import Accept, Request, Standing, Transfer
from rehydrate import (
    NEWEST,
    Aggregate,
    App,
    ConfigurationError,
    EventEnvelope,
    JsonCodec,
    Limits,
    Park,
    ProcessManager,
    Rejected,
    Runtime,
    Send,
    Snapshot,
    Undeliverable,
    open_store,
)
from rehydrate.runtime.control import reset
from rehydrate.store.port import LogFilter, NewEvent, Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from tests import bank as plain
from tests.bank import account

LIMITS = Limits(takeover_after=1)


@pytest.fixture
async def store() -> Any:
    store = await open_store("memory://")
    yield store
    await store.close()


async def at_rest(runtime: Runtime) -> None:
    """Return when all consumers are at the end of the log, and nothing follows any more."""
    while True:
        head = (await runtime.store.head()).position
        await until(lambda: are_at(head, runtime))  # noqa: B023 - it is awaited here
        if (await runtime.store.head()).position == head:
            return


def are_at(position: int, *runtimes: Runtime) -> bool:
    """Whether each consumer is there in one of these."""
    places: dict[str, int] = {}
    for one in [one for runtime in runtimes for one in runtime.statistics().consumers]:
        places[one.name] = max(one.position, places.get(one.name, 0))
    return min(places.values()) >= position


async def types_in(store: Store, stream: str) -> list[str]:
    page = await store.read_stream(stream)
    return [event.type for event in page.events]


async def ask(bank: Runtime, transfer: str, target: str, amount: int) -> None:
    await bank.dispatch(money_transfer, transfer, Request(transfer, "ada", target, amount))
    await bank.dispatch(money_transfer, transfer, Accept())


async def test_a_transfer_moves_the_money(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await ask(bank, "t1", "bob", 30)
        await at_rest(bank)
        assert await bank.state(bank_account, "ada") == Account(70)
        assert await bank.state(bank_account, "bob") == Account(30)
        assert await bank.state(money_transfer, "t1") == Transfer(Standing.COMPLETED)


async def test_a_refusal_comes_back_as_a_value_and_is_compensated(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await bank.dispatch(bank_account, "eve", Close())
        await ask(bank, "t1", "eve", 30)
        await ask(bank, "t2", "eve", 3_000)
        await at_rest(bank)
        assert await bank.state(bank_account, "ada") == Account(100)
        assert await bank.state(money_transfer, "t1") == Transfer(Standing.FAILED, "the money went back")
        refused = await bank.state(money_transfer, "t2")
        assert refused.reason.startswith("insufficient funds: balance")


async def test_what_an_instance_takes_in_and_what_follows_is_one_append(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await ask(bank, "t1", "bob", 30)
        await at_rest(bank)
        page = await store.read_stream("transfers-t1")
    assert [event.type for event in page.events[:3]] == [
        "rehydrate.Handled",
        "rehydrate.Sent",
        "rehydrate.Sent",
    ]
    assert page.events[0].metadata == page.events[2].metadata
    positions = [event.position for event in page.events[:3]]
    assert positions == [positions[0], positions[0] + 1, positions[0] + 2]


async def test_why_and_which_conversation_are_carried(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await bank.dispatch(
            money_transfer, "t1", Request("t1", "ada", "bob", 30), correlation_id="the conversation"
        )
        await at_rest(bank)
        sent = [envelope async for envelope in bank.events(bank_account, "ada")][-1]
    assert sent.metadata.correlation_id == "the conversation"
    asked = next(
        event for event in (await store.read_stream("transfers-t1")).events if event.type.endswith("Sent")
    )
    assert sent.metadata.causation_id == sent.metadata.command_id == asked.id


@pytest.mark.parametrize("consumer", ["transfers:events", "transfers:sends", "transfers:timers"])
async def test_one_that_begins_again_at_the_first_event_doubles_nothing(store: Store, consumer: str) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await bank.dispatch(bank_account, "eve", Close())
        await ask(bank, "t1", "bob", 30)
        await ask(bank, "t2", "eve", 30)
        await ask(bank, "t3", "eve", 3_000)
        await at_rest(bank)
    before = await store.head()
    # What was refused would be taken now: who begins again must not send it a second time.
    await store.append(
        "bank_account-ada", [NewEvent("more", "Deposited", b'{"amount":5000}')], expected_version=4
    )
    await reset(store, consumer)
    async with app.open(store) as bank:
        await at_rest(bank)
        assert (await bank.state(bank_account, "ada")).balance == 5_070
        assert (await bank.state(bank_account, "bob")).balance == 30
    assert (await store.head()).position == before.position + 1


# ---- a process manager with less in it: each deposit of A is followed by one to B


def by_account(envelope: EventEnvelope[plain.Event]) -> str | None:
    return None if envelope.aggregate_id.startswith("copy") else envelope.aggregate_id


def count(seen: tuple[str, ...], event: plain.Event | Rejected) -> tuple[str, ...]:
    if isinstance(event, Rejected):
        return (*seen, f"{type(event.rejection).__name__} {event.rejection.facts}")
    if isinstance(event, plain.Cursed):
        raise RuntimeError("a bug in evolve")
    return (*seen, type(event).__name__)


def follow(seen: tuple[str, ...], event: plain.Event | Rejected) -> Iterable[Send]:
    match event:
        case plain.Deposited(13):
            yield Send(account, "copy", plain.Crash("decide"))
        case plain.Deposited(amount) if amount < 1_000:
            yield Send(account, f"copy{amount % 10}", plain.Deposit(amount))
        case plain.Deposited():
            raise RuntimeError("a bug in react")
        case _:
            pass


def nothing_follows(_seen: Any, _event: Any) -> Iterable[Send]:
    return ()


def unchanged(state: Any, _event: Any) -> Any:
    return state


def copying(**fields: Any) -> ProcessManager[tuple[str, ...], plain.Event]:
    declared: dict[str, Any] = {
        "name": "copying",
        "initial": (),
        "correlate": by_account,
        "evolve": count,
        "react": follow,
        "sources": [account],
    }
    return ProcessManager(**(declared | fields))


def app_with(**fields: Any) -> App:
    return App(aggregates=[account], processes=[copying(**fields)])


async def test_a_command_that_fails_for_good_comes_back_too(store: Store) -> None:
    async with app_with().open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(13))
        await at_rest(bank)
    told = (await store.read_stream("copying-a")).events[-1]
    assert told.type == "rehydrate.Rejected"
    assert Undeliverable.__name__ in told.data.decode()
    assert "ActorCrashedError" in told.data.decode()


class Mended:
    """The codec of the copies, with a name more."""

    def __init__(self) -> None:
        known = JsonCodec(plain.Event)
        self.names, self.encode = known.names, known.encode
        self.decoders: dict[str, Callable[[bytes], Any]] = {**known.decoders, "Unknown": self._unknown}

    def _unknown(self, data: bytes) -> plain.Deposited:
        return plain.Deposited(len(data))


def app_with_copies(codec: Any = None) -> App:
    """One whose commands go to another aggregate than its events come from."""
    copies = Aggregate(
        name="copies",
        initial=plain.Account(),
        decide=plain.decide,
        evolve=plain.evolve,
        commands=plain.Command,
        events=plain.Event,
        codec=codec,
    )

    def follow_there(seen: tuple[str, ...], event: plain.Event | Rejected) -> Iterable[Send]:
        for send in follow(seen, event):
            yield Send(copies, send.id, send.command)

    return App(aggregates=[account, copies], processes=[copying(react=follow_there)])


async def test_a_target_that_cannot_be_reached_holds_back_its_own_commands_only(
    store: Store, fake_clock: FakeClock
) -> None:
    # A stream that cannot be folded is one that nothing can be sent to.
    await store.append("copies-copy1", [NewEvent("x", "Unknown", b"{}")], expected_version=0)
    app = app_with_copies()
    async with app.open(store, clock=fake_clock) as bank:
        for amount in (1, 2, 11, 12):
            await bank.dispatch(account, "a", plain.Deposit(amount))
        for _ in range(20):
            await fake_clock.advance(1)
        await at_rest(bank)
        assert (await bank.state(app.aggregates["copies"], "copy2")).balance == 14
        assert [one.key for one in await bank.parked("copying:sends")] == ["copies-copy1"] * 2
        # Many more for others, and none is stuck behind those that wait.
        for _ in range(1_200):
            await bank.dispatch(account, "a", plain.Deposit(2))
        for _ in range(5):
            await fake_clock.advance(1)
        await at_rest(bank)
        assert (await bank.state(app.aggregates["copies"], "copy2")).balance == 2_414
    # Code that knows the event comes: what was held back is sent, in order, without anybody asking for it.
    app = app_with_copies(Mended())
    async with app.open(store, clock=fake_clock) as bank:
        for _ in range(10):
            await fake_clock.advance(1)
        assert await bank.parked("copying:sends") == []
        sent = [envelope.event async for envelope in bank.events(app.aggregates["copies"], "copy1")][1:]
        assert sent == [plain.Deposited(1), plain.Deposited(11)]


async def test_a_bug_in_react_stops_it_and_nothing_is_lost(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with app_with().open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(5_000))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "a bug in react" in bank.statistics().consumers[0].reason
    assert await types_in(store, "copying-a") == []
    async with app_with(react=nothing_follows).open(store) as bank:
        await at_rest(bank)
    assert await types_in(store, "copying-a") == ["rehydrate.Handled"]
    assert "a bug in react" in caplog.text


async def test_a_refusal_that_react_fails_at_is_told_again_until_it_does_not(
    store: Store, fake_clock: FakeClock
) -> None:
    def failing(seen: tuple[str, ...], event: plain.Event | Rejected) -> Iterable[Send]:
        if isinstance(event, Rejected):
            raise RuntimeError("a bug in the branch for refusals")
        return follow(seen, event)

    async with app_with(react=failing).open(store, clock=fake_clock) as bank:
        await bank.dispatch(account, "a", plain.Deposit(13))
        await fake_clock.advance(10)
        (parked,) = await bank.parked("copying:sends")
        assert "a bug in the branch for refusals" in parked.reason
        assert bank.statistics().consumers[1].state == "running"
    async with app_with().open(store, clock=fake_clock) as bank:
        await fake_clock.advance(10)
        assert await bank.parked("copying:sends") == []
    assert (await types_in(store, "copying-a")).count("rehydrate.Rejected") == 1


async def test_a_parked_event_holds_back_its_instance_only(store: Store) -> None:
    async with app_with(on_error=Park()).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(5_000))
        await bank.dispatch(account, "a", plain.Deposit(1))
        await bank.dispatch(account, "b", plain.Deposit(1))
        await at_rest(bank)
        assert [one.key for one in await bank.parked("copying:events")] == ["a", "a"]
        assert (await bank.state(account, "copy1")).balance == 1
        assert await bank.drop("copying:events", "a") == 2


async def test_one_that_begins_at_the_newest_event_does_not_act_on_the_past(store: Store) -> None:
    async with App(aggregates=[account]).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
    async with app_with(after=NEWEST).open(store) as bank:
        await until(lambda: bank.statistics().consumers[0].state == "running")
        await bank.dispatch(account, "a", plain.Deposit(2))
        await at_rest(bank)
    assert await types_in(store, "bank_account-copy1") == []
    assert await types_in(store, "bank_account-copy2") == ["Deposited"]


async def test_instances_have_snapshots_as_aggregates_have(store: Store) -> None:
    async with app_with(snapshot=Snapshot(every=10)).open(store) as bank:
        for _ in range(12):
            await bank.dispatch(account, "a", plain.Deposit(1))
        await at_rest(bank)
    saved = await store.load_snapshot("copying-a")
    assert saved is not None
    assert b"Deposited" in saved.data
    async with app_with(snapshot=Snapshot(every=10)).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
        await at_rest(bank)
        assert (await bank.state(account, "copy1")).balance == 13


async def test_events_of_instances_are_not_for_subscriptions(store: Store) -> None:
    seen: list[str] = []

    async def handler(envelope: EventEnvelope[Any]) -> None:
        seen.append(envelope.stream)

    async with app_with().open(store) as bank:
        bank.subscribe("all", handler)
        await bank.dispatch(account, "a", plain.Deposit(1))
        await at_rest(bank)
    assert seen == ["bank_account-a", "bank_account-copy1"]


async def test_two_processes_take_each_event_in_once(store: Store) -> None:
    async with app_with().open(store, limits=LIMITS) as one, app_with().open(store, limits=LIMITS) as other:
        for n in range(30):
            await (one if n % 2 else other).dispatch(account, f"a{n % 7}", plain.Deposit(1))
        states = [each.state for each in (*one.statistics().consumers, *other.statistics().consumers)]
        assert states.count("running") == 3
        # 30 deposits, 30 times what was taken in with what follows, 30 copies.
        await until(lambda: are_at(120, one, other))
        page = await store.read_all(where=LogFilter(types=frozenset({"rehydrate.Handled"})))
        assert len(page.events) == 30
        assert (await one.state(account, "copy1")).balance == 30


# ---- what is refused before anything runs


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "no-dash"}, "a process manager cannot be named 'no-dash'"),
        ({"name": "bank_account"}, "another one, or an aggregate, has this name"),
        ({"initial": []}, "can be changed in place, and all instances begin with it"),
        ({"sources": []}, "sources must be a list of at least one aggregate"),
        ({"sources": account}, "sources must be a list of at least one aggregate"),
        ({"sources": ["bank_account"]}, "'bank_account' is no Aggregate: give the Aggregate value itself"),
        ({"react": None}, "react must be a plain function"),
        ({"react": by_account}, r"react is called with \(state, event\), and takes \(envelope\)"),
        ({"on_error": "stop"}, "on_error='stop' must be Stop"),
        ({"after": -1}, "after=-1 must be a position"),
        ({"snapshot": 10}, "must be a Snapshot"),
        ({"snapshot": Snapshot(every=10), "initial": object()}, "its state cannot be stored"),
    ],
)
def test_what_cannot_work_is_refused_when_the_app_is_built(fields: dict[str, Any], reason: str) -> None:
    if "initial" in fields and "snapshot" in fields:
        fields = fields | {"evolve": unchanged}
    with pytest.raises(ConfigurationError, match=reason):
        app_with(**fields)


def test_a_source_must_be_one_of_the_apps() -> None:
    with pytest.raises(ConfigurationError, match="its source 'bank_account' is not one of the App's"):
        App(aggregates=[money_transfer], processes=[copying()])
    with pytest.raises(ConfigurationError, match="processes= must be a list"):
        App(aggregates=[account], processes=copying())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "returns", "reason"),
    [
        ("react", None, "react gave NoneType; return a list of Send"),
        ("react", Send(account, "b", plain.Deposit(1)), "react gave Send; return a list of Send"),
        ("correlate", 5, "this id that correlate returned cannot be used: it is of type int"),
    ],
)
async def test_a_function_that_returns_something_else_is_named_with_what_to_return(
    store: Store, function: str, returns: Any, reason: str
) -> None:
    def wrong(*_given: Any) -> Any:
        return returns

    async with app_with(**{function: wrong}).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert reason in bank.statistics().consumers[0].reason


async def test_a_send_that_nobody_takes_stops_the_process_manager(store: Store) -> None:
    def astray(_seen: Any, event: Any) -> Iterable[Send]:
        yield Send(bank_account, "x", Withdraw(1))

    async with app_with(react=astray).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "is not one of the App's aggregates" in bank.statistics().consumers[0].reason


async def test_the_state_of_an_instance_is_asked_for_as_that_of_an_aggregate(store: Store) -> None:
    process = copying()
    async with App(aggregates=[account], processes=[process]).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
        await bank.dispatch(account, "a", plain.Deposit(2))
        await at_rest(bank)
        assert await bank.state(process, "a") == ("Deposited", "Deposited")
        assert await bank.state(process, "a", at=1) == ("Deposited",)
        assert await bank.state(process, "nobody") == ()
        with pytest.raises(ConfigurationError, match="'copying' is not one of this App's"):
            await bank.state(copying(), "a")


async def test_what_was_taken_in_of_an_aggregate_that_is_no_source_any_more_is_still_folded(
    store: Store,
) -> None:
    other = Aggregate(
        name="other",
        initial=plain.Account(),
        decide=plain.decide,
        evolve=plain.evolve,
        commands=plain.Command,
        events=plain.Event,
    )
    both = App(aggregates=[account, other], processes=[copying(sources=[account, other])])
    async with both.open(store) as bank:
        await bank.dispatch(other, "a", plain.Deposit(1))
        await at_rest(bank)
    process = copying()
    async with App(aggregates=[account, other], processes=[process]).open(store) as bank:
        await bank.dispatch(account, "a", plain.Deposit(1))
        await at_rest(bank)
        assert await bank.state(process, "a") == ("Deposited", "Deposited")


async def test_what_is_held_back_is_replayed_and_dropped_by_hand(store: Store) -> None:
    await store.append("copies-copy1", [NewEvent("x", "Unknown", b"{}")], expected_version=0)
    async with app_with_copies().open(store, limits=Limits(retry_first=60, retry_most=60)) as bank:
        for amount in (1, 11):
            await bank.dispatch(account, "a", plain.Deposit(amount))
        await until(lambda: bank.statistics().consumers[1].parked == 2)
    app = app_with_copies(Mended())
    async with app.open(store, consumers=False) as bank:
        assert await bank.replay("copying:sends") == 2
        assert (await bank.state(app.aggregates["copies"], "copy1")).balance == 14
        assert await bank.drop("copying:sends") == 0
