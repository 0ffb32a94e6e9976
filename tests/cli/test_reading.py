"""`rehydrate streams`, `events` and `state`: looking, and changing nothing."""

from __future__ import annotations

from asyncio import gather, to_thread
from pathlib import Path

import pytest

from rehydrate import open_store
from rehydrate.cli import table
from rehydrate.store.port import NewEvent
from tests.cli.terminal import BANK, Ended, as_input, deposit, line, typed, withdraw


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/bank.db"
    lines = [
        deposit("ada", 100),
        deposit("bob", 5),
        withdraw("ada", 10),
        line("eve", "Split", amount=9, parts=3),
    ]
    typed("run", BANK, "--store", url, stdin=as_input(lines))
    return url


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person looks at stdout."""
    monkeypatch.setattr("rehydrate.cli.program.wants_table", is_not_json)


def is_not_json(json: bool) -> bool:
    return not json


# ---- streams


def test_streams_are_listed_with_their_versions_in_the_order_of_their_names(store: str) -> None:
    ended = typed("streams", "--store", store)
    assert ended.code == 0
    assert ended.answers == [
        {"stream": "bank_account-ada", "version": 2},
        {"stream": "bank_account-bob", "version": 1},
        {"stream": "bank_account-eve", "version": 3},
    ]


def test_streams_may_be_limited_and_chosen_by_how_they_begin(store: str) -> None:
    assert len(typed("streams", "--store", store, "--limit", "2").answers) == 2
    (only,) = typed("streams", "--store", store, "--prefix", "bank_account-b").answers
    assert only["stream"] == "bank_account-bob"
    none = typed("streams", "--store", store, "--prefix", "shop")
    assert (none.code, none.stdout) == (0, "")
    assert "has no streams that begin with 'shop'" in none.stderr


async def test_all_pages_of_streams_are_listed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/many.db"
    store = await open_store(url)
    new = [NewEvent(f"{number}", "Happened", b"{}") for number in range(1_100)]
    await gather(*(store.append(f"a-{event.id}", [event], expected_version=0) for event in new))
    await store.close()
    assert len((await to_thread(typed, "streams", "--store", url)).answers) == 1_100
    assert len((await to_thread(typed, "streams", "--store", url, "--limit", "1050")).answers) == 1_050


@pytest.mark.usefixtures("on_terminal")
def test_a_person_sees_a_table_of_streams_and_with_json_the_lines(store: str) -> None:
    assert typed("streams", "--store", store).stdout.splitlines() == [
        "  version  stream",
        "        2  bank_account-ada",
        "        1  bank_account-bob",
        "        3  bank_account-eve",
    ]
    assert typed("streams", "--store", store, "--json").answers[0]["version"] == 2


# ---- events


def test_events_show_all_that_is_stored(store: str) -> None:
    ended = typed("events", "bank_account-ada", "--store", store)
    assert ended.code == 0
    first, second = ended.answers
    assert [first["version"], second["version"]] == [1, 2]
    assert {**second, "id": "", "recorded_at": "", "metadata": {}} == {
        "stream": "bank_account-ada", "version": 2, "position": second["position"], "id": "", "type": "Withdrawn",
        "recorded_at": "", "data": {"amount": 10}, "metadata": {},
    }  # fmt: skip
    assert second["recorded_at"].endswith("Z")
    assert second["metadata"]["command_id"]


@pytest.mark.parametrize(
    ("options", "versions"),
    [(("--after", "1"), [2, 3]), (("--limit", "2"), [1, 2]), (("--after", "1", "--limit", "1"), [2])],
)
def test_events_begin_after_a_version_and_end_at_a_limit(
    store: str, options: tuple[str, ...], versions: list[int]
) -> None:
    answers = typed("events", "bank_account-eve", "--store", store, *options).answers
    assert [answer["version"] for answer in answers] == versions


def test_following_ends_at_the_limit(store: str) -> None:
    answers = typed("events", "bank_account-eve", "--store", store, "--follow", "--limit", "3").answers
    assert [answer["version"] for answer in answers] == [1, 2, 3]


def test_a_stream_without_events_is_said_to_have_none(store: str) -> None:
    ended = typed("events", "bank_account-zoe", "--store", store)
    assert (ended.code, ended.stdout) == (0, "")
    assert "has no events of 'bank_account-zoe'; `rehydrate streams` lists the streams" in ended.stderr


@pytest.mark.usefixtures("on_terminal")
def test_a_person_sees_a_table_of_events(store: str) -> None:
    heading, first, second = typed("events", "bank_account-ada", "--store", store).stdout.splitlines()
    assert heading.split() == ["version", "position", "recorded", "at", "(UTC)", "type", "data"]
    assert first.split()[0] == "1"
    assert second.endswith('Withdrawn            {"amount":10}')


@pytest.mark.usefixtures("on_terminal")
async def test_nothing_that_is_stored_can_move_the_cursor_and_a_long_line_is_cut(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/odd.db"
    store = await open_store(url)
    odd = NewEvent("e1", "Ha\x1b[31mck", b"\x1b[2J" + b"x" * 500)
    await store.append("odd-\x1b]0;title\x07", [odd], expected_version=0)
    await store.close()
    shown = (await to_thread(typed, "events", "odd-\x1b]0;title\x07", "--store", url)).stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert all(len(each) <= 80 for each in shown.splitlines())
    assert "\x1b" not in (await to_thread(typed, "streams", "--store", url)).stdout


async def test_data_that_is_no_json_comes_as_base64_and_json_on_several_lines_on_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/odd.db"
    store = await open_store(url)
    new = [
        NewEvent("e1", "A", b"\xff\x00"),
        NewEvent("e2", "B", b'{\n "a": 1\n}'),
        NewEvent("e3", "C", b"[" * 10_000),
    ]
    await store.append("odd-1", new, expected_version=0)
    await store.close()
    ended = await to_thread(typed, "events", "odd-1", "--store", url)
    first, second, third = ended.answers
    assert first["data"] == {"base64": "/wA="}
    assert second["data"] == {"a": 1}
    assert set(third["data"]) == {"base64"}


@pytest.mark.parametrize(
    ("year", "recorded_at", "shown"),
    [
        (9999, "9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59"),
        (10_000, 253_402_300_800_000_000, "253402300800000000"),
        (-300_000, -(2**63), "-9223372036854775808"),
    ],
)
async def test_a_time_beyond_the_years_of_four_digits_is_shown_as_microseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int, recorded_at: str | int, shown: str
) -> None:
    url = f"sqlite:///{tmp_path}/odd.db"
    store = await open_store(url)
    stored = recorded_at if isinstance(recorded_at, int) else 253_402_300_799_999_999
    await store.append("odd-1", [NewEvent("e1", "A", b"1", recorded_at=stored)], expected_version=0)
    await store.close()
    (event,) = (await to_thread(typed, "events", "odd-1", "--store", url)).answers
    assert event["recorded_at"] == recorded_at
    monkeypatch.setattr("rehydrate.cli.program.wants_table", is_not_json)
    assert shown in (await to_thread(typed, "events", "odd-1", "--store", url)).stdout


# ---- state


def test_state_is_what_the_events_come_to(store: str) -> None:
    assert typed("state", BANK, "bank_account", "ada", "--store", store).answers == [
        {"aggregate": "bank_account", "id": "ada", "version": 2, "state": {"balance": 90, "changes": 2}}
    ]


def test_state_at_a_version_is_what_it_was_then(store: str) -> None:
    (answer,) = typed("state", BANK, "bank_account", "ada", "--store", store, "--at", "1").answers
    assert (answer["version"], answer["state"]["balance"]) == (1, 100)
    (answer,) = typed("state", BANK, "bank_account", "ada", "--store", store, "--at", "0").answers
    assert (answer["version"], answer["state"]["balance"]) == (0, 0)


def test_a_version_that_a_stream_does_not_have_is_one_sentence(store: str) -> None:
    ended = typed("state", BANK, "bank_account", "ada", "--store", store, "--at", "3")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == "rehydrate: bank_account-ada is at version 2: it has no version 3\n"


def test_the_state_of_an_id_without_events_is_the_initial_one_and_it_is_said(store: str) -> None:
    ended = typed("state", BANK, "bank_account", "zoe", "--store", store)
    assert ended.answers[0] == {
        "aggregate": "bank_account", "id": "zoe", "version": 0, "state": {"balance": 0, "changes": 0},
    }  # fmt: skip
    assert "has no events" in ended.stderr


def test_an_aggregate_that_the_app_does_not_have_is_one_sentence(store: str) -> None:
    ended = typed("state", BANK, "bank", "ada", "--store", store)
    assert ended.code == 1
    assert "no aggregate 'bank' in this App (it has: bank_account)" in ended.stderr


@pytest.mark.usefixtures("on_terminal")
def test_a_person_sees_the_state_in_lines(store: str) -> None:
    shown = typed("state", BANK, "bank_account", "ada", "--store", store).stdout
    assert shown.splitlines()[0] == "bank_account ada at version 2"
    assert '"balance": 90' in shown


# ---- all of them


@pytest.mark.parametrize(
    "command",
    [
        ("streams",), ("events", "bank_account-ada"), ("state", BANK, "bank_account", "ada"), ("verify",),
        ("verify", BANK),
    ],
    ids=" ".join,
)  # fmt: skip
def test_looking_creates_no_database(command: tuple[str, ...], tmp_path: Path) -> None:
    ended: Ended = typed(*command, "--store", f"sqlite:///{tmp_path}/none.db")
    assert (ended.code, ended.stdout) == (1, "")
    assert "there is no database" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_looking_makes_no_database_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    ended = typed("streams", "--store", f"sqlite:///{tmp_path}/empty.db")
    assert (ended.code, ended.stdout) == (1, "")
    assert "there is no database" in ended.stderr
    assert [(each.name, each.stat().st_size) for each in tmp_path.iterdir()] == [("empty.db", 0)]


@pytest.mark.parametrize("server", ["postgres_url", "mongodb_url", "nats_url"])
def test_looking_makes_nothing_on_a_server(server: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(server)
    for command in (("state", BANK, "bank_account", "ada"), ("streams",)):
        ended = typed(*command, "--store", url)
        assert (ended.code, ended.stdout) == (1, "")
        assert len(ended.stderr.splitlines()) == 1


def test_a_table_is_for_a_terminal_that_asks_for_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert table.wants_table(json=False)
    assert not table.wants_table(json=True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert not table.wants_table(json=False)
