"""What only the store in NATS does: its subjects, its messages, what it asks its servers for."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from rehydrate.errors import (
    AppendTooLargeError,
    InvalidIdError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.nats import failures
from rehydrate.store.nats.failures import ApiError
from rehydrate.store.nats.history import Entry, KnownEnd
from rehydrate.store.nats.jetstream import Batch, Message, PubAck
from rehydrate.store.nats.log import Append
from rehydrate.store.nats.reader import Reader
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.nats.subjects import Subjects, as_text, as_token
from rehydrate.store.port import Appended, Head, LogFilter, NewEvent, ViewChange
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.appends import submitted
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill, ids, sound_log
from rehydrate.testing.conformance.snapshots import snapshot
from tests.store.nats_stores import config_of, delete_all, name_of, opened


@pytest.fixture
async def store(nats_url: str) -> AsyncIterator[NatsStore]:
    store = await opened(nats_url)
    yield store
    await store.close()


# ---- subjects

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(
    ["", ".", "*", ">", "=", "=-", "-", "--", " ", "a.b", "a=2Eb", "\n", "\t", "\x7f", "é", "\U0001f98a"]
)


@given(TEXTS)
def test_any_text_is_one_token_and_comes_back(text: str) -> None:
    token = as_token(text)
    assert as_text(token) == text
    assert token
    assert token.isascii()
    assert not set(token) & set(" .*>\t\r\n\0")


@given(st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_no_two_streams_have_one_subject(streams: list[str]) -> None:
    subjects = Subjects("bank")
    first, second = (subjects.events(stream) for stream in streams)
    assert first != second
    assert [subjects.stream_of(first), subjects.stream_of(second)] == streams
    assert first.count(".") == 3


async def test_the_longest_name_of_the_worst_characters_is_stored_and_found(store: NatsStore) -> None:
    aggregate, id = "a." * 64, "\U0001f98a" * 128
    stream = f"{aggregate}-{id}"
    await fill(store, stream, 2)
    assert [head.stream for head in await store.streams()] == [stream]
    page = await store.read_all(where=LogFilter(aggregates=frozenset({aggregate})))
    assert [event.stream for event in page.events] == [stream] * 2
    key = "\U0001f98a" * 128
    assert await store.save_checkpoint(checkpoint(key, 1), previous=None, views=[ViewChange(key, b"1")])
    assert await store.list_views(key) == [(key, b"1")]


async def test_a_name_that_no_subject_can_hold_does_not_cost_the_connection(store: NatsStore) -> None:
    lost = store._log.era
    with pytest.raises(InvalidIdError):
        await store.save_snapshot(snapshot("x" * 10_000, 1), keep=1)
    assert await store.load_snapshot("x" * 10_000) is None
    assert store._log.era == lost


async def test_a_filter_on_one_aggregate_or_stream_is_the_servers_work(
    store: NatsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, "account-1", 1)
    await fill(store, "order-1", 300)
    patterns: list[str] = []
    batch = store._jetstream.batch

    async def noted(stream: str, subject: str, number: int, limit: int, max_bytes: int) -> Any:
        found = await batch(stream, subject, number, limit, max_bytes)
        patterns.append(f"{subject} {len(found.messages)}")
        return found

    monkeypatch.setattr(store._jetstream, "batch", noted)
    for where in (LogFilter(aggregates=frozenset({"account"})), LogFilter(streams=frozenset({"account-1"}))):
        page = await store.read_all(where=where)
        assert (len(page.events), page.is_last, page.position) == (1, True, (await store.head()).position)
    name = name_of(store)
    assert patterns == [f"{name}.e.account.* 1", f"{name}.e.account.1 1"]


# ---- appends


async def test_what_a_former_leader_refuses_may_be_stored_by_his_successor(
    three_nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stood still wakes up, refuses for a moment what he has not heard of, and knows of fewer events."""
    store = await opened(three_nats_url)
    await fill(store, "account-1", 1)
    first = await store._history.last("account-1")
    await store.append("account-1", events(2), expected_version=1)
    log, last = store._log, store._history.last
    answered = log._answered
    answers = 0

    async def former(stream: str) -> Entry | None:
        nonlocal answers
        answers += 1
        return first if answers <= 2 else await last(stream)

    def refused(append: Append, *answer: Any) -> None:
        monkeypatch.setattr(log, "_answered", answered)
        refusal = PubAck(error=ApiError(400, failures.WRONG_LAST, "wrong last sequence: 1"))
        answered(append, *[refusal if isinstance(part, PubAck) else part for part in answer])

    monkeypatch.setattr(store._history, "last", former)
    monkeypatch.setattr(log, "_answered", refused)
    done = await store.append("account-1", events(1), expected_version=3)
    assert done.version == 4
    assert len((await store.read_stream("account-1")).events) == 4
    await store.close()


async def test_a_stream_that_was_set_back_is_a_conflict_also_for_what_was_sent(
    three_nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(three_nats_url)
    await fill(store, "account-1", 3)
    await delete_all(store)
    other = await opened(three_nats_url)
    await fill(other, "account-1", 1)
    end = KnownEnd(3, 3, "of before")

    def known_before(_: Append) -> KnownEnd:
        return end

    monkeypatch.setattr(store._log, "_end", known_before)
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=3)
    assert conflict.value.actual == 1
    await other.close()
    await store.close()


@pytest.mark.parametrize(
    "where", [LogFilter(aggregates=frozenset({"purse"})), LogFilter(streams=frozenset({"purse-1"}))]
)
async def test_a_filter_passes_nothing_of_which_a_former_leader_has_not_heard(
    three_nats_url: str, monkeypatch: pytest.MonkeyPatch, where: LogFilter
) -> None:
    """A leader that stood still answers for a moment when it wakes up: one question to it, and one to its successor."""
    store = await opened(three_nats_url)
    await fill(store, "account-1", 3)
    new = events(1)
    await store.append("purse-1", new, expected_version=0)
    await fill(store, "account-2", 1)
    reader = store._reader
    batch = reader._jetstream.batch

    async def of_before(*_: object) -> None:
        return None

    async def at_first_of_before(*question: Any) -> Batch:
        monkeypatch.setattr(reader._jetstream, "batch", batch)
        return Batch([], is_end=True)

    monkeypatch.setattr(reader._history, "next", of_before)
    monkeypatch.setattr(reader._jetstream, "batch", at_first_of_before)
    page = await store.read_all(where=where)
    assert ids(page.events) == ids(new)
    assert page.is_last
    assert (await store.read_all(after=page.position, where=where)).position == page.position
    await store.close()


async def test_a_filter_on_more_streams_than_a_server_counts_passes_what_does_not_match(
    three_nats_url: str,
) -> None:
    store = await opened(three_nats_url)
    purses = [f"purse-{n}" for n in range(1_025)]
    await asyncio.gather(*[store.append(purse, events(1), expected_version=0) for purse in purses])
    await fill(store, "account-1", 5)
    where = LogFilter(aggregates=frozenset({"purse"}))
    read: list[str] = []
    position, is_last = 0, False
    while not is_last:
        page = await store.read_all(after=position, limit=500, where=where)
        read += [event.stream for event in page.events]
        position, is_last = page.position, page.is_last
    assert sorted(read) == sorted(purses)
    assert position == (await store.head()).position
    await store.close()


async def test_a_message_that_ids_make_too_large_is_refused_before_it_is_sent(store: NatsStore) -> None:
    large = [NewEvent(id=f"{n:04}{'x' * 508}", type="T" * 512, data=b"", metadata=b"") for n in range(4_096)]
    size = store.capabilities.max_append_bytes - 1
    with pytest.raises(AppendTooLargeError, match="bytes"):
        await store.append(
            "account-1",
            [*large[:-1], NewEvent(id="last", type="T", data=b"x" * size, metadata=b"")],
            expected_version=0,
        )
    assert await store.versions(["account-1"]) == [0]
    await store.append(
        "account-1", [NewEvent(id="1", type="T", data=b"x" * size, metadata=b"")], expected_version=0
    )
    assert await store.versions(["account-1"]) == [1]


async def test_a_store_that_is_full_says_so_and_is_read_on(nats_url: str) -> None:
    store = await opened(f"{nats_url}?max_bytes=20000")
    await fill(store, "account-1", 1)
    before = await sound_log(store)
    large = [NewEvent(id="large", type="T", data=b"x" * 30_000)]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="takes no more bytes") as full:
            await store.append("account-1", large, expected_version=1)
        assert (full.value.stored, full.value.retryable) == (False, False)
    assert await sound_log(store) == before
    config = await config_of(store, "events")
    await store._jetstream.api(f"STREAM.UPDATE.{name_of(store)}-events", {**config, "max_bytes": 100_000})
    assert (await store.append("account-1", large, expected_version=1)).version == 2
    await store.close()


async def test_an_append_that_is_in_doubt_is_asked_for_again(
    store: NatsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a leader answers that has another write to the subject under way: 10164."""
    await fill(store, "account-1", 1)
    call = store._connection.call
    doubted: list[str] = []

    def doubting(subject: str, payload: bytes, answered: Any, **options: Any) -> None:
        if options.get("headers") and len(doubted) < 3:
            doubted.append(subject)
            message = SimpleNamespace(
                data=b'{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}'
            )
            asyncio.get_running_loop().call_soon(answered, message)
        else:
            call(subject, payload, answered, **options)

    monkeypatch.setattr(store._connection, "call", doubting)
    new = events(2)
    assert (await store.append("account-1", new, expected_version=1)).version == 3
    assert len(doubted) == 3
    assert ids(await sound_log(store))[1:] == ids(new)


async def test_an_append_whose_answer_is_late_is_stored_once_and_answered_with_its_place(
    store: NatsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored, and behind it others were, when its answer was given up."""
    call = store._connection.call
    lost: list[str] = []

    def losing(subject: str, payload: bytes, answered: Any, **options: Any) -> None:
        if options.get("headers") and not lost:
            lost.append(subject)
            call(subject, payload, lambda _: False, **options)
            call(
                subject,
                b"never",
                answered,
                headers={"Nats-Expected-Last-Subject-Sequence": "99"},
                timeout=0.0,
            )
        else:
            call(subject, payload, answered, **options)

    monkeypatch.setattr(store._connection, "call", losing)
    first = events(3)
    appended = await store.append("account-1", first, expected_version=0)
    log = await sound_log(store)
    assert appended == Appended(3, log[-1].position)
    assert ids(log) == ids(first)
    assert lost


async def test_a_sealed_jetstream_stream_takes_no_appends_and_is_opened(
    store: NatsStore, nats_url: str
) -> None:
    first = events(1)
    done = await store.append("account-1", first, expected_version=0)
    await store.seal()
    assert (await config_of(store, "events"))["sealed"]
    again = await opened(nats_url)
    with pytest.raises(StoreSealedError):
        await again.append("account-1", events(1), expected_version=1)
    assert await again.append("account-1", first, expected_version=0) == done
    await again.close()


async def test_a_store_that_is_made_anew_under_its_users_is_another_history(
    store: NatsStore, nats_url: str
) -> None:
    """As `nats stream restore` does it: the connection stays, and the numbers of the messages are the same."""
    mine = events(1)
    await store.append("account-1", mine, expected_version=0)
    era = store._log.era
    await delete_all(store)
    another = await opened(nats_url)
    theirs = events(1)
    await another.append("account-1", theirs, expected_version=0)
    await until(lambda: store._log.era > era)
    outcome = await submitted(store, "account-1", events(1), 1, mine[-1].id)
    assert isinstance(outcome, VersionConflictError)
    assert outcome.is_another_history
    assert ids(await sound_log(store)) == ids(theirs)
    await another.close()


# ---- reading


async def test_a_short_stream_is_read_with_one_question_and_a_long_one_with_two(
    store: NatsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account-1", events(5), expected_version=0)
    for n in range(20):
        await store.append("account-2", events(1), expected_version=n)
    near = (await store.read_stream("account-2", after=9, limit=1)).events[0].position
    asked: list[str] = []
    call = store._connection.call

    def noted(subject: str, *arguments: Any, **options: Any) -> None:
        asked.append(subject.split(".")[2])
        call(subject, *arguments, **options)

    monkeypatch.setattr(store._connection, "call", noted)
    assert len((await store.replay("account-1")).rows) == 5
    assert asked == ["STREAM"]
    asked.clear()
    assert len((await store.replay("account-2")).rows) == 20
    assert asked == ["STREAM", "DIRECT"]
    asked.clear()
    assert len((await store.replay("account-2", after=10, near=near)).rows) == 10
    assert asked == ["STREAM", "DIRECT"]
    asked.clear()
    assert len((await store.replay("account-2", after=19)).rows) == 1
    assert asked == ["STREAM"]


async def test_what_was_read_need_not_be_asked_for_before_an_append(
    store: NatsStore, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, "account-1", 3)
    another = await opened(nats_url)
    await another.replay("account-1")
    asked: list[str] = []
    call = another._connection.call

    def noted(subject: str, *arguments: Any, **options: Any) -> None:
        asked.append(subject)
        call(subject, *arguments, **options)

    monkeypatch.setattr(another._connection, "call", noted)
    await another.append("account-1", events(1), expected_version=3)
    assert asked == [f"{name_of(store)}.e.account.1"]
    await another.close()


async def test_a_page_of_long_messages_asks_for_few_of_them(store: NatsStore) -> None:
    for n in range(60):
        await store.append(f"account-{n}", events(100), expected_version=0)
    reader: Reader = store._reader
    log = await sound_log(store)
    assert len(log) == 6_000
    assert reader._messages_for(1_000) < 100


async def test_streams_that_come_while_names_are_listed_disturb_no_page(store: NatsStore) -> None:
    for n in range(6):
        await fill(store, f"account-{n}", 1)
    first = await store.streams(limit=2)
    await fill(store, "account-00", 1)
    rest = await store.streams(after=first[-1].stream, limit=10)
    assert [head.stream for head in [*first, *rest]] == [f"account-{n}" for n in range(6)]
    assert "account-00" in [head.stream for head in await store.streams()]


# ---- views


async def test_views_of_a_consumer_that_was_reset_take_no_room(store: NatsStore) -> None:
    views = [ViewChange(f"view {n}", b"x") for n in range(20)]
    assert await store.save_checkpoint(checkpoint("balances", 1), previous=None, views=views)
    await store.reset_checkpoint("balances")
    assert len(await store._jetstream.subjects(f"{name_of(store)}-consumers", ">")) == 1
    await store.remove_checkpoint("balances")
    assert await store._jetstream.subjects(f"{name_of(store)}-consumers", ">") == []


async def test_as_many_snapshots_are_kept_as_asked_for(store: NatsStore) -> None:
    for keep, versions in ((3, range(1, 6)), (1, range(6, 8))):
        for version in versions:
            await store.save_snapshot(snapshot("account-1", version), keep=keep)
        info = await store._jetstream.api(f"STREAM.INFO.{name_of(store)}-snapshots")
        assert info["state"]["messages"] == keep


async def test_what_is_removed_is_what_was_there_when_it_was_asked_for(
    store: NatsStore, nats_url: str
) -> None:
    """A question whose answer is late is asked again, and the second may come late as well."""
    purges: list[Msg] = []

    async def hear(question: Msg) -> None:
        purges.append(question)

    other = await opened(nats_url)
    for kind in ("snapshots", "consumers"):
        await other._connection.listen(f"$JS.API.STREAM.PURGE.{name_of(store)}-{kind}", hear)
    await other._connection.client.flush()
    await store.save_snapshot(snapshot("account-1", 1), keep=2)
    await store.save_checkpoint(checkpoint("balances", 1), previous=None)
    await store.delete_snapshots("account-1")
    await store.remove_checkpoint("balances")
    assert await store.load_snapshot("account-1") is None
    assert await store.load_checkpoint("balances") is None
    await store.save_snapshot(snapshot("account-1", 2), keep=2)
    await store.save_checkpoint(checkpoint("balances", 2), previous=None)
    await until(lambda: len(purges) >= 3)
    for purge in purges[:3]:
        await store._connection.ask(purge.subject, purge.data)
    assert await store.load_snapshot("account-1") == snapshot("account-1", 2)
    assert await store.load_checkpoint("balances") == checkpoint("balances", 2)
    await other.close()


async def test_the_newest_append_is_fetched_once_where_it_is_large(
    store: NatsStore, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for events asks where the log ends five times a second, and so does each page of it."""
    fetched: list[int] = []
    last = store._jetstream.last

    async def counted(stream: str, subject: str) -> Message | None:
        message = await last(stream, subject)
        fetched.append(0 if message is None else len(message.data))
        return message

    monkeypatch.setattr(store._jetstream, "last", counted)
    assert await store.head() == Head(0, "")
    big = [NewEvent(id="e1", type="Noted", data=b"x" * 100_000, metadata=b"")]
    done = await store.append("account-1", big, expected_version=0)
    for _ in range(3):
        assert await store.head() == Head(done.position, "e1")
        assert (await store.read_all(after=done.position)).is_last
    assert [size for size in fetched if size > 100_000] == fetched[-1:]
    again = await store.append("account-1", events(2), expected_version=1)
    assert (await store.head()).position == again.position
    await delete_all(store)
    restored = await opened(nats_url)
    other = [NewEvent(id="e2", type="Noted", data=b"x" * 100_000, metadata=b"")]
    await restored.append("account-1", other, expected_version=0)
    assert (await store.head()).event_id == "e2"
    await restored.close()
