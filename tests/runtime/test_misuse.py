"""What a domain or a caller does wrong is the answer to that one command, and harms no other."""

from __future__ import annotations

import asyncio
import enum
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from rehydrate import (
    ActorCrashedError,
    Aggregate,
    App,
    AppendTooLargeError,
    CommandResult,
    ConfigurationError,
    EventEnvelope,
    InvalidIdError,
    MailboxFullError,
    Projection,
    Rejection,
    UnknownAggregateError,
    UnknownCommandError,
)
from rehydrate.testing import given, settle, until
from rehydrate.testing.faults import Hang, Refuse
from tests.bank import Account, Deposit, account
from tests.bank import app as bank_app
from tests.stand_ins import SHARED, staged


@dataclass(frozen=True)
class Add:
    amount: int


@dataclass(frozen=True)
class Misbehave:
    how: str


@dataclass(frozen=True)
class Added:
    amount: int


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NotReally(Rejection, StopIteration): ...


def forever() -> Iterator[Added]:
    while True:
        yield Added(1)


def late() -> Iterator[Added]:
    yield Added(1)
    raise ZeroDivisionError


def decide(total: int, command: Add | Misbehave) -> Iterable[Added]:
    if isinstance(command, Add):
        return [Added(command.amount)]
    wrongs: dict[str, Any] = {"mute": Mute(), "cancel": asyncio.CancelledError(), "stop": NotReally()}
    if command.how in wrongs:
        raise wrongs[command.how]
    gifts: dict[str, Any] = {
        "forever": forever(),
        "late": late(),
        "none": None,
        "single": Added(1),
        "misfit": [Added("1")],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "unwritable": [Added(object())],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "forgotten": [Added(-1)],
    }
    gift: Iterable[Added] = gifts[command.how]
    return gift


def evolve(total: int, event: Added) -> int:
    if event.amount < 0:
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
    return total + event.amount


counter = Aggregate(
    name="counter", initial=0, decide=decide, evolve=evolve, commands=Add | Misbehave, events=Added
)
app = App(aggregates=[counter])

CRASHES = {
    "mute": "its text cannot be had",
    "cancel": "CancelledError",
    "stop": "NotReally",
    "none": "decide gave NoneType; return a list of events, or yield them",
    "single": "decide gave Added; return a list of events, or yield them",
    "misfit": "its Added cannot be stored: ValidationError: Expected `int`, got `str`",
    "unwritable": "its Added cannot be stored: TypeError",
    "late": "ZeroDivisionError",
    "forgotten": "evolve returned None for Added; return the next state",
}


@dataclass(frozen=True)
class Weigh:
    grams: float


async def test_a_number_that_json_does_not_have_is_said_to_be_that() -> None:
    def same(state: int, command: Weigh) -> Iterable[Weigh]:
        return [command]

    def count(state: int, event: Weigh) -> int:
        return state + 1

    scale = Aggregate(name="scale", initial=0, decide=same, evolve=count, commands=Weigh, events=Weigh)
    told = "its Weigh cannot be stored: grams is nan, and JSON has neither NaN nor infinity"
    async with App(aggregates=[scale]).open("memory://") as runtime:
        with pytest.raises(ActorCrashedError, match=told):
            await runtime.dispatch(scale, "a", Weigh(float("nan")))
    with pytest.raises(AssertionError, match="cannot be stored: grams is nan"):
        given(scale).when(Weigh(float("nan")))


@dataclass(frozen=True)
class Share:
    of_all: float | None = None


async def test_a_view_with_a_number_that_json_does_not_have_is_not_stored() -> None:
    def share(view: Share, envelope: EventEnvelope[Added]) -> Share:
        return Share(float("nan") if envelope.event.amount == 2 else None)

    shares = Projection(
        name="shares",
        initial=Share(),
        key=lambda envelope: envelope.aggregate_id,
        evolve=share,
        sources=[counter],
    )
    async with App(aggregates=[counter], projections=[shares]).open("memory://") as runtime:
        done = await runtime.dispatch(counter, "a", Add(1))
        assert await runtime.view(shares, "a", at_least=done.position) == Share()
        await runtime.dispatch(counter, "a", Add(2))
        await until(lambda: runtime.statistics().consumers[0].state == "stopped")
        assert runtime.statistics().consumers[0].reason == (
            "the view of 'a' cannot be stored after position 2: of_all is nan, and JSON has neither NaN nor infinity"
        )
        assert await runtime.view(shares, "a") == Share()


class Shares(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    mean: float = 0.0
    note: str | None = None


class NamedShares(Shares):
    model_config = pydantic.ConfigDict(frozen=True, ser_json_inf_nan="constants")


class SharesAsText(Shares):
    model_config = pydantic.ConfigDict(frozen=True, ser_json_inf_nan="strings")


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("kind", "state"), [(Shares, "stopped"), (NamedShares, "running"), (SharesAsText, "running")]
)
async def test_a_pydantic_view_may_hold_a_number_that_json_does_not_have_where_it_comes_back(
    kind: type[Shares], state: str, number: float
) -> None:
    shares: Projection[Shares, Added] = Projection(
        name="shares",
        initial=kind(),
        key=lambda envelope: envelope.aggregate_id,
        evolve=lambda view, envelope: kind(mean=number),
        sources=[counter],
    )
    async with App(aggregates=[counter], projections=[shares]).open("memory://") as runtime:
        done = await runtime.dispatch(counter, "a", Add(1))
        await until(
            lambda: (
                (consumer := runtime.statistics().consumers[0]).state == "stopped"
                or consumer.position == done.position
            )
        )
        assert runtime.statistics().consumers[0].state == state
        if state == "running":
            view = await runtime.view(shares, "a", at_least=done.position)
            assert repr(view.mean) == repr(number)


@pytest.mark.parametrize("how", CRASHES)
async def test_whatever_decide_does_is_the_answer_to_its_command_alone(how: str, tmp_path: Path) -> None:
    async with app.open(f"sqlite:///{tmp_path}/counter.db") as runtime:
        await runtime.state(counter, "a")
        sent = [
            runtime.dispatch_nowait(counter, "a", command) for command in (Add(1), Misbehave(how), Add(2))
        ]
        before, wrong, after = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(wrong, ActorCrashedError)
        assert CRASHES[how] in wrong.reason
        assert isinstance(before, CommandResult)
        assert isinstance(after, CommandResult)
        assert await runtime.state(counter, "a") == 3
        assert runtime.statistics().busy == 0
    async with app.open("memory://") as runtime:
        with pytest.raises(ActorCrashedError):
            await runtime.dispatch(counter, "a", Misbehave(how))
        assert (await runtime.dispatch(counter, "a", Add(1))).version == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_program_in_decide_ends_it_and_leaves_the_actor_in_order(
    kind: type[BaseException],
) -> None:
    def interrupted(total: int, command: Add) -> list[Added]:
        raise kind

    quitter = Aggregate(
        name="quitter", initial=0, decide=interrupted, evolve=evolve, commands=Add, events=Added
    )

    async def run() -> None:
        async with App(aggregates=[quitter]).open("memory://") as runtime:
            with pytest.raises(ActorCrashedError):
                await runtime.dispatch(quitter, "a", Add(1))
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(kind):
            loop.run_until_complete(run())
        tasks = asyncio.all_tasks(loop)
        loop.run_until_complete(asyncio.gather(*tasks))
    finally:
        loop.close()


async def test_a_decide_that_never_ends_is_ended() -> None:
    async with app.open("memory://") as runtime:
        with pytest.raises(AppendTooLargeError):
            await runtime.dispatch(counter, "a", Misbehave("forever"))
        assert await runtime.state(counter, "a") == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("5", "timeout='5': it must be seconds, as a number"),
        (timedelta(seconds=1.5), "it must be seconds, as a number; write 1.5"),
    ],
)
async def test_a_timeout_that_is_no_number_says_what_to_write(given: Any, told: str) -> None:
    async with bank_app.open("memory://") as bank:
        for sent in (
            bank.dispatch(account, "ada", Deposit(1), timeout=given),
            bank.dispatch_nowait(account, "ada", Deposit(1), timeout=given),
        ):
            with pytest.raises(ConfigurationError, match=re.escape(told)):
                await sent
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 1


async def test_a_result_where_a_version_or_a_position_is_due_says_which_field_to_write() -> None:
    async with bank_app.open("memory://") as bank:
        given: Any = await bank.dispatch(account, "ada", Deposit(1))
        with pytest.raises(ConfigurationError, match=r"write at=result\.version"):
            await bank.state(account, "ada", at=given)
        with pytest.raises(ConfigurationError, match=r"write after=result\.version"):
            await anext(bank.events(account, "ada", after=given))
        with pytest.raises(ConfigurationError, match=r"write caused_at=result\.position"):
            await bank.dispatch(account, "ada", Deposit(1), command_id="x", caused_at=given)
        assert await bank.state(account, "ada", at=given.version) == Account(1, 1)


class Who(str, enum.Enum):  # noqa: UP042 - StrEnum shows itself as its value, this one does not
    ADA = "ada"


async def test_a_member_of_a_str_enum_names_the_same_stream_as_its_text() -> None:
    async with bank_app.open("memory://") as bank:
        await bank.dispatch(account, Who.ADA, Deposit(1))
        await bank.dispatch(account, "ada", Deposit(1), command_id=Who.ADA)
        assert [head.stream for head in await bank.store.streams()] == ["bank_account-ada"]
        assert [event.version async for event in bank.events(account, Who.ADA)] == [1, 2]
        assert await bank.state(account, Who.ADA, at=1) == Account(1, 1)


@pytest.mark.parametrize("id", [5, None, ["ada"], {"ada": 1}, b"ada"])
async def test_an_id_that_is_no_text_is_refused(id: Any) -> None:
    async with bank_app.open("memory://") as bank:
        with pytest.raises(InvalidIdError):
            await bank.dispatch(account, id, Deposit(1))
        with pytest.raises(InvalidIdError):
            await bank.state(account, id)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"correlation_id": 5}, InvalidIdError),
        ({"causation_id": ""}, InvalidIdError),
        ({"correlation_id": "\ud800"}, InvalidIdError),
        ({"metadata": {"x": float("nan")}}, ConfigurationError),
        ({"metadata": {"x": "\ud800"}}, ConfigurationError),
        ({"metadata": {5: "x"}}, ConfigurationError),
        ({"caused_at": "5"}, ConfigurationError),
        ({"caused_at": 5.0, "command_id": "x"}, ConfigurationError),
        ({"metadata": "x"}, ConfigurationError),
        ({"metadata": ["x"]}, ConfigurationError),
    ],
)
async def test_what_could_not_be_read_again_is_refused_before_anything_is_stored(
    wrong: dict[str, Any], kind: type[Exception]
) -> None:
    async with bank_app.open("memory://") as bank:
        with pytest.raises(kind):
            await bank.dispatch(account, "ada", Deposit(1), **wrong)
        assert (await bank.dispatch(account, "ada", Deposit(1), command_id="next")).version == 1


@dataclass
class Open:
    total: int = 0


class OpenStruct(msgspec.Struct):
    total: int = 0


@pytest.mark.parametrize("initial", [[], {}, set[int](), bytearray(), Open(), OpenStruct()])
def test_a_starting_state_that_can_be_changed_in_place_is_refused(initial: Any) -> None:
    with pytest.raises(ConfigurationError, match="can be changed in place"):
        Aggregate(name="x", initial=initial, decide=decide, evolve=evolve, commands=Add, events=Added)


def test_an_app_of_one_aggregate_that_is_not_in_a_list_says_what_to_write() -> None:
    wrong: Any = account
    with pytest.raises(ConfigurationError, match=re.escape("must be a list: App(aggregates=[...])")):
        App(aggregates=wrong)


@pytest.mark.parametrize("given", [None, 7, ["account"], [[account]], "account"])
def test_what_is_no_list_of_aggregates_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("App(aggregates=[...])")):
        App(aggregates=given)


async def test_limits_of_another_type_are_refused() -> None:
    wrong: Any = {"mailbox": 10}
    with pytest.raises(ConfigurationError, match="must be a Limits"):
        async with bank_app.open("memory://", limits=wrong):
            pass


async def test_who_takes_what_open_returns_for_the_runtime_is_told_how_to_get_that() -> None:
    opening: Any = bank_app.open("memory://")
    how = re.escape("async with app.open(...) as runtime")
    with pytest.raises(ConfigurationError, match=how):
        await opening
    with pytest.raises(AttributeError, match=how):
        await opening.dispatch(account, "ada", Deposit(1))
    with pytest.raises(ConfigurationError, match=how), opening:
        pass
    async with opening as bank:
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 1


async def test_who_takes_what_open_sync_returns_for_the_runtime_is_told_how_to_get_that() -> None:
    opening: Any = bank_app.open_sync("memory://")
    how = re.escape("with app.open_sync(...) as runtime")
    with pytest.raises(AttributeError, match=how):
        opening.dispatch(account, "ada", Deposit(1))
    with pytest.raises(ConfigurationError, match=how):
        async with opening:
            pass


@pytest.mark.parametrize("given", [Path("bank.db"), 7, b"memory://"])
@pytest.mark.parametrize("what", ["store", "snapshots"])
async def test_what_is_no_store_is_refused_with_what_to_give(given: Any, what: str) -> None:
    stores: dict[str, Any] = {"store": "memory://", what: given}
    with pytest.raises(ConfigurationError, match="is no store: give its URL"):
        async with bank_app.open(**stores):
            pass


async def test_a_store_that_was_not_given_is_refused_with_where_to_look() -> None:
    nothing: Any = None
    with pytest.raises(ConfigurationError, match="if it comes from a variable, that is not set"):
        async with bank_app.open(nothing):
            pass


async def test_a_class_where_a_command_is_due_is_refused_with_what_to_give() -> None:
    kind: Any = Deposit
    async with bank_app.open("memory://") as bank:
        with pytest.raises(
            UnknownCommandError, match=r"the class Deposit .* give a value, Deposit\(\.\.\.\)"
        ):
            await bank.dispatch(account, "ada", kind)


@pytest.mark.parametrize("given", ["account", None])
async def test_what_is_no_aggregate_is_refused_with_what_to_give(given: Any) -> None:
    async with bank_app.open("memory://") as bank:
        for asked in (bank.dispatch(given, "ada", Deposit(1)), bank.state(given, "ada")):
            with pytest.raises(UnknownAggregateError, match="give the Aggregate value itself"):
                await asked


async def test_one_failure_of_many_appends_holds_back_once_and_one_tries_again() -> None:
    async with staged(SHARED) as stage:
        ids = [f"a{n}" for n in range(10)]
        for id in ids:
            await stage.bank.state(account, id)
        full = Refuse(retryable=False)
        stage.script.add("submit", *[full] * 10)
        sent = [stage.bank.dispatch_nowait(account, id, Deposit(1)) for id in ids]
        await settle()
        assert all(future.exception() for future in sent)
        await stage.clock.advance(1.1)
        stage.script.add("submit", Hang())
        first, *others = [stage.bank.dispatch_nowait(account, id, Deposit(1)) for id in ids]
        await settle()
        assert not first.done()
        assert all(future.exception() for future in others)
        stage.store.release()
        assert (await first).version == 1
        assert (await stage.bank.dispatch(account, ids[1], Deposit(1))).version == 1


async def test_repeats_that_are_read_back_are_bounded() -> None:
    async with staged(SHARED) as stage:
        first = await stage.bank.dispatch(account, "ada", Deposit(1), command_id="once")
        most = 4_096
        stage.script.add("read_stream", *[Hang()] * most)
        sent = [
            stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="once") for _ in range(most + 1)
        ]
        await settle()
        assert isinstance(sent[-1].exception(), MailboxFullError)
        stage.store.release()
        assert await sent[0] == first


async def test_a_snapshot_store_that_never_answers_costs_a_replay_and_no_command(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from rehydrate import Snapshot
    from tests.bank import bank_account

    frequent = bank_account(snapshot=Snapshot(every=1))
    async with staged(SHARED, of=App(aggregates=[frequent])) as stage:
        stage.script.add("load_snapshot", Hang())
        sent = stage.bank.dispatch_nowait(frequent, "ada", Deposit(1))
        with caplog.at_level(logging.WARNING):
            await stage.clock.advance(20)
        assert (await sent).version == 1
        assert "snapshot store did not answer" in caplog.text


async def test_a_rejection_with_an_init_of_its_own_can_be_shown_and_raised() -> None:
    @dataclass
    class NoFunds(Rejection):
        balance: int

    assert repr(NoFunds(balance=5))
    assert str(NoFunds(5)) == "no funds"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"snapshot": 100}, r"write snapshot=Snapshot\(every=100\)"),
        ({"initial": Added}, r"write initial=Added\(\)"),
        ({"decide": [Added(1)]}, "give the function itself, not its result"),
    ],
)
def test_what_cannot_be_declared_is_refused_with_what_to_write(wrong: dict[str, Any], sentence: str) -> None:
    declared: dict[str, Any] = {
        "name": "x", "initial": 0, "decide": decide, "evolve": evolve, "commands": Add, "events": Added
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=sentence):
        Aggregate(**{**declared, **wrong})
