"""Facts and errors cross a process as themselves."""

from __future__ import annotations

import datetime as dt
import decimal
import inspect
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate import Aggregate, App, ConfigurationError, Rejection, errors
from rehydrate.cluster import wire
from rehydrate.cluster.failures import ElsewhereError, as_reply, error_from, rejection_from
from rehydrate.cluster.values import pack, unpack
from rehydrate.codec.rejections import rejections_of
from rehydrate.errors import ActorCrashedError, RehydrateError, StoreUnavailableError, VersionConflictError
from rehydrate.runtime.rehydration import WentBackError
from tests.bank import InsufficientFunds, account

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.text() | st.integers())
        | st.sets(st.integers())
    ),
    max_leaves=10,
)


@given(values)
def test_facts_come_back_equal_and_of_the_same_type(value: object) -> None:
    back = unpack(pack(value))
    assert back == value
    assert type(back) is type(value)


def test_what_has_no_form_of_its_own_comes_as_json_or_as_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    class Amount(int): ...

    assert unpack(pack(Odd())) == "<odd>"
    assert unpack(pack([InsufficientFunds])) == [repr(InsufficientFunds)]
    assert unpack(pack({"a": account.initial})) == {"a": {"balance": 0, "changes": 0}}
    assert unpack(pack(Amount(5))) in (5, "5")


def _sample(annotation: Any) -> Any:
    return 3 if annotation in (int, float) else ("a", "b") if "tuple" in str(annotation) else "some text"


def _all_errors() -> list[RehydrateError]:
    """One of each class, made as its signature asks for."""
    made: list[RehydrateError] = []
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, RehydrateError):
            if "__init__" not in vars(kind):
                made.append(kind("what is wrong"))
                continue
            parameters = list(inspect.signature(kind, eval_str=True).parameters.values())
            made.append(
                kind(*(_sample(each.annotation) for each in parameters if each.default is each.empty))
            )
    return made


@pytest.mark.parametrize("error", _all_errors(), ids=lambda error: type(error).__name__)
def test_every_error_is_raised_as_itself_with_its_facts(error: RehydrateError) -> None:
    error.__cause__ = ValueError("the reason")
    sent = wire.read_reply(wire.encode(as_reply(error, "bank_account-ada", "Deposit", "node/1")))
    back = error_from(sent)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert isinstance(back.__cause__, ElsewhereError)
    assert str(back.__cause__) == "ValueError: the reason (on node/1)"


def test_an_error_that_only_the_runtime_knows_is_raised_as_what_it_is_one_of() -> None:
    back = error_from(wire.read_reply(wire.encode(as_reply(WentBackError("back"), "s", "c", "n"))))
    assert (type(back), str(back)) == (StoreUnavailableError, "back")


def test_what_is_no_error_of_rehydrate_is_a_crash() -> None:
    back = error_from(wire.read_reply(wire.encode(as_reply(KeyError("x"), "bank-ada", "Deposit", "n"))))
    assert isinstance(back, ActorCrashedError)
    assert (back.stream, back.command) == ("bank-ada", "Deposit")


class Known(Rejection): ...


class Special(Known):
    def __init__(self, code: int) -> None:
        super().__init__(code=code)
        self.code = code


def _crossed(rejection: Rejection, known: dict[str, type[Rejection]]) -> Rejection:
    return rejection_from(wire.read_reply(wire.encode(as_reply(rejection, "s", "c", "n"))), known)


def test_a_refusal_with_an_init_of_its_own_comes_with_its_attributes() -> None:
    back = _crossed(Special(7), {"Special": Special})
    assert isinstance(back, Special)
    assert (back.code, back.facts, str(back)) == (7, {"code": 7}, "special: code 7")


def test_a_refusal_that_is_not_known_here_is_the_nearest_that_is_and_reads_the_same() -> None:
    back = _crossed(Special(7), {"Known": Known})
    assert isinstance(back, Known)
    assert (str(back), type(back).__name__) == ("special: code 7", "Special")
    stranger = _crossed(Special(7), {})
    assert (str(stranger), isinstance(stranger, Known)) == ("special: code 7", False)


def test_the_refusals_of_an_aggregate_are_those_of_the_module_of_decide() -> None:
    assert rejections_of(account) == {"InsufficientFunds": InsufficientFunds}


def _with_rejections(rejections: object) -> Aggregate[Any, Any, Any]:
    return Aggregate(
        name="bank",
        initial=account.initial,
        decide=account.decide,
        evolve=account.evolve,
        commands=account.commands,
        events=account.events,
        rejections=rejections,
    )


def test_rejections_names_the_refusals_of_an_aggregate() -> None:
    assert rejections_of(_with_rejections(Known | Special)) == {"Known": Known, "Special": Special}
    assert rejections_of(_with_rejections(Known)) == {"Known": Known}


def test_what_is_no_refusal_is_refused_when_the_app_is_built() -> None:
    with pytest.raises(ConfigurationError, match="'bank': rejections= has ValueError, which is no Rejection"):
        App(aggregates=[_with_rejections(ValueError)])
    with pytest.raises(ConfigurationError, match="two of its rejections are named Known"):
        App(aggregates=[_with_rejections(Known | type("Known", (Rejection,), {}))])


def test_a_request_of_another_version_tells_its_version() -> None:
    assert wire.wire_of(wire.encode((7, "another", "shape"))) == 7
    assert wire.wire_of(b"\xc1") is None


def test_conflicts_keep_their_numbers() -> None:
    back = error_from(
        wire.read_reply(wire.encode(as_reply(VersionConflictError("s-1", 2, 4), "s-1", "c", "n")))
    )
    assert isinstance(back, VersionConflictError)
    assert (back.expected, back.actual) == (2, 4)
    assert isinstance(unpack(pack(uuid.UUID(int=1))), uuid.UUID)
    assert unpack(pack(decimal.Decimal("1.10"))).as_tuple() == decimal.Decimal("1.10").as_tuple()
