"""`rehydrate export` and `import`: events as lines of JSON, and back to the same bytes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrate import RehydrateError, SystemClock, open_store
from rehydrate.cli.input import Input
from rehydrate.cli.moving.appending import OutOfPlaceError
from rehydrate.cli.moving.comparison import NotACopyError
from rehydrate.cli.moving.copy import copy_store
from rehydrate.cli.moving.event_lines import first_line
from rehydrate.cli.moving.exporting import export_events
from rehydrate.cli.moving.importing import import_events
from rehydrate.store.port import Checkpoint, NewEvent, Store
from rehydrate.testing.conformance.material import log_events, sound_log
from rehydrate.testing.faults import FaultyStore, Refuse, Script
from tests.cli.conftest import KINDS, NewUrl
from tests.cli.moving import Content, by_command, contents, fill, fill_with_oddities, opened
from tests.cli.terminal import typed


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, new_url: NewUrl) -> str:
    """The URL of a new store."""
    return new_url(request.param)


def given_lines(*lines: bytes, name: str = "events.jsonl") -> Input:
    return Input(name, io.BytesIO(b"".join(line + b"\n" for line in lines)))


async def exported(url: str, folder: Path) -> list[bytes]:
    """The lines of an export."""
    file = folder / "exported.jsonl"
    assert await export_events(url, str(file)) == 0
    lines = file.read_bytes().splitlines()
    file.unlink()
    return lines


@pytest.fixture(scope="module")
def long_export(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], list[Content]]:
    """The lines of an export of some ten thousand events, and what is stored of these."""

    async def export() -> tuple[list[bytes], list[Content]]:
        async with opened("memory://a-long-export") as (store,):
            await fill(store, 4_000)
            return await exported(store.url, tmp_path_factory.mktemp("long")), await contents(store)

    return asyncio.run(export())


# ---- a store


async def test_an_export_comes_back_as_the_same_events(url: str, new_url: NewUrl, tmp_path: Path) -> None:
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 60)
        await fill_with_oddities(source)
        await fill(source, 2_000, seed=2)
        lines = await exported(source.url, tmp_path)
        assert await import_events(url, given_lines(*lines)) == 0
        assert await contents(store) == await contents(source)
        await sound_log(store)
        assert (await exported(url, tmp_path))[0] == lines[0]


async def test_the_same_import_stores_nothing_twice_and_goes_on(
    url: str, new_url: NewUrl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 60)
        first = await exported(source.url, tmp_path)
        await fill(source, 60, seed=2)
        second = await exported(source.url, tmp_path)
        assert await import_events(url, given_lines(*first)) == 0
        assert await import_events(url, given_lines(*second)) == 0
        assert await import_events(url, given_lines(*second)) == 0
        assert "0 events imported from events.jsonl" in capsys.readouterr().err
        assert await contents(store) == await contents(source)


async def test_an_import_says_that_no_checkpoint_came_along_and_a_copy_after_it_brings_them(
    tmp_path: Path, new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(new_url("sqlite"), new_url("sqlite")) as (source, store):
        await fill(source, 5)
        (event,) = (await source.read_all(after=2, limit=1)).events
        place = Checkpoint(name="mails", position=event.position, event_id=event.id, epoch=1)
        assert await source.save_checkpoint(place, previous=None)
        lines = await exported(source.url, tmp_path)
        assert await import_events(store.url, given_lines(*lines)) == 0
        assert (
            f"checkpoints are not in events.jsonl: a subscription that has none in {store.url} begins at the first event"
        ) in capsys.readouterr().err
        assert await store.load_checkpoint("mails") is None
        assert await copy_store(source.url, store.url, seal=False) == 0
        copied = await store.load_checkpoint("mails")
        assert copied is not None
        assert (copied.epoch, copied.event_id) == (1, event.id)


async def test_an_empty_store_is_exported_as_no_events(url: str, tmp_path: Path) -> None:
    async with opened(url):
        lines = await exported(url, tmp_path)
        assert lines == [b'{"format":"rehydrate events","version":1}', b'{"events":0}']
        assert await import_events(url, given_lines(*lines)) == 0


async def test_blank_lines_and_windows_endings_do_no_harm(url: str, new_url: NewUrl, tmp_path: Path) -> None:
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 5)
        lines = await exported(source.url, tmp_path)
        lines.insert(3, b"  ")
        await import_events(url, given_lines(*[line + b"\r" for line in lines], b""))
        assert await contents(store) == await contents(source)


# ---- a file that is not whole


HARM: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "cut off": (
        lambda lines: lines[:60],
        r"events.jsonl was cut off: it ends with line 60, and not with the line that counts its events",
    ),
    "cut in a line": (lambda lines: [*lines[:60], lines[60][:40]], r"events.jsonl, line 61: not an event: .*too early"),
    "a line is missing": (
        lambda lines: [*lines[:60], *lines[61:]],
        r"it counts \d+ events, and there are",
    ),
    "a line twice": (
        lambda lines: [*lines[:60], lines[59], *lines[60:]],
        r"it counts \d+ events, and there are",
    ),
    "words": (lambda lines: [*lines[:60], b"deposit 5", *lines[60:]], r"events.jsonl, line 61: not an event: it is no JSON"),
    "something behind the end": (
        lambda lines: [*lines, lines[60]],
        r"line \d+: there is something behind the line that counts the events",
    ),
    "another count": (lambda lines: [*lines[:-1], b'{"events":7}'], r"it counts 7 events, and there are \d+ before it"),
    "another file": (lambda lines: lines[1:], r"events.jsonl, line 1: an export begins with"),
    "nothing": (lambda lines: [], r"events.jsonl was cut off: it ends with line 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", HARM)
async def test_a_harmed_file_is_one_sentence_and_nothing_after_the_harm_is_stored(
    url: str, new_url: NewUrl, tmp_path: Path, what: str
) -> None:
    harm, sentence = HARM[what]
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 60)
        lines = await exported(source.url, tmp_path)
        with pytest.raises(RehydrateError, match=sentence):
            await import_events(url, given_lines(*harm(list(lines))))
        stored, whole = await contents(store), await contents(source)
        assert stored == whole[: len(stored)]
        # What was left out, and nothing else, is what the whole file then brings.
        assert await import_events(url, given_lines(*lines)) == 0
        assert await contents(store) == whole


async def test_a_harm_far_in_leaves_what_is_before_it_stored_and_says_how_much(
    url: str, long_export: tuple[list[bytes], list[Content]]
) -> None:
    lines, _ = long_export
    async with opened(url) as (store,):
        with pytest.raises(
            RehydrateError, match=r"line 9,001: .*; ([\d,]+) events before it are stored"
        ) as found:
            await import_events(url, given_lines(*lines[:9_000], b"?", *lines[9_000:]))
        stored = await contents(store)
        assert f"{len(stored):,} events before it" in str(found.value)
        assert 8_000 < len(stored) < 9_000


def missing(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5_000], *lines[5_001:]]


def twice(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5_001], *lines[5_000:]]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (missing, "versions between them are missing in events.jsonl"),
        (twice, "something else writes to the destination"),
    ],
)
async def test_a_line_that_is_missing_or_twice_is_named_long_before_the_end(
    url: str,
    long_export: tuple[list[bytes], list[Content]],
    harm: Callable[[list[bytes]], list[bytes]],
    sentence: str,
) -> None:
    lines, whole = long_export
    async with opened(url) as (store,):
        with pytest.raises(
            OutOfPlaceError, match=rf"events.jsonl goes on with version .* at line 5,\d+: .*{sentence}"
        ):
            await import_events(url, given_lines(*harm(lines)))
        stored = await contents(store)
        assert 0 < len(stored) <= 5_000
        assert stored == whole[: len(stored)]
        assert await import_events(url, given_lines(*lines)) == 0
        assert await contents(store) == whole


async def test_behind_a_time_that_no_store_takes_nothing_is_stored(
    url: str, new_url: NewUrl, tmp_path: Path
) -> None:
    async with opened(url, new_url("memory")) as (store, source):
        for stream in ("a-1", "b-1", "c-1"):
            event = NewEvent(stream, "T", b"{}", b"{}", recorded_at=2**63 - 1)
            await source.append(stream, [event], expected_version=0)
        lines = await exported(source.url, tmp_path)
        harmed = [*lines[:2], lines[2].replace(str(2**63 - 1).encode(), str(2**63).encode()), *lines[3:]]
        with pytest.raises(RehydrateError, match=r"line 3: .*'recorded_at' is 9223372036854775808"):
            await import_events(url, given_lines(*harmed))
        stored, whole = await contents(store), await contents(source)
        assert stored == whole[: len(stored)]
        assert await import_events(url, given_lines(*lines)) == 0
        assert await contents(store) == whole


async def test_a_store_that_holds_something_else_is_refused_and_nothing_is_written(
    url: str, new_url: NewUrl, tmp_path: Path
) -> None:
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 20)
        await store.append("shop-1", by_command("open", 1), expected_version=0)
        lines = await exported(source.url, tmp_path)
        with pytest.raises(
            NotACopyError, match=r"neither empty nor the beginning of this import.*line 2.*nothing was"
        ):
            await import_events(url, given_lines(*lines))
        assert [event.id for event in await log_events(store)] == ["open.0"]


async def test_a_store_that_stays_away_ends_an_import_which_then_goes_on(
    new_url: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cli.moving.appending.PAUSES", (0.0,) * 3)
    url = new_url("memory")
    async with opened(url, new_url("memory")) as (store, source):
        await fill(source, 100)
        lines = await exported(source.url, tmp_path)
        script = Script()
        script.add("submit", *[None] * 20, *[Refuse()] * 10_000)

        async def open_faulty(url: str) -> Store:
            return FaultyStore(await open_store(url), script, SystemClock())

        with monkeypatch.context() as patched:
            patched.setattr("rehydrate.cli.moving.importing.open_store", open_faulty)
            with pytest.raises(
                RehydrateError, match="what was imported stays, and the same call goes on there"
            ):
                await import_events(url, given_lines(*lines))
        assert await import_events(url, given_lines(*lines)) == 0
        assert await contents(store) == await contents(source)


# ---- files and pipes, as they are typed


async def sqlite_with_events(new_url: NewUrl, count: int = 50) -> str:
    url = new_url("sqlite")
    async with opened(url) as (store,):
        await fill(store, count)
    return url


async def test_a_file_and_a_pipe_hold_the_same(new_url: NewUrl, tmp_path: Path) -> None:
    url = await sqlite_with_events(new_url)
    file = tmp_path / "bank.jsonl"
    assert (await asyncio.to_thread(typed, "export", url, file)).code == 0
    piped = await asyncio.to_thread(typed, "export", url)
    assert piped.stdout == file.read_text()
    assert "exported from" in piped.stderr
    assert "checkpoints, views and snapshots are not" in piped.stderr
    one, other = new_url("sqlite"), new_url("sqlite")
    assert (await asyncio.to_thread(typed, "import", one, file)).code == 0
    assert (await asyncio.to_thread(typed, "import", other, stdin=piped.stdout)).code == 0
    async with opened(url, one, other) as stores:
        first, second, third = [await contents(store) for store in stores]
    assert first == second == third


async def test_a_file_that_is_there_is_not_overwritten(new_url: NewUrl, tmp_path: Path) -> None:
    url = await sqlite_with_events(new_url)
    file = tmp_path / "bank.jsonl"
    file.write_text("precious")
    ended = await asyncio.to_thread(typed, "export", url, file)
    assert (ended.code, file.read_text()) == (1, "precious")
    assert ended.stderr == f"rehydrate: {file} is there already: remove it, or choose another name\n"


async def test_a_file_has_its_name_only_when_it_is_whole(
    new_url: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await sqlite_with_events(new_url)
    file = tmp_path / "bank.jsonl"

    def broken(events: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rehydrate.cli.moving.exporting.last_line", broken)
    ended = await asyncio.to_thread(typed, "export", url, file)
    assert ended.code == 1
    assert ended.stderr == f"rehydrate: {file} cannot be written: No space left on device\n"
    assert not list(tmp_path.glob("*.jsonl*"))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("export", "sqlite:///{folder}/none.db"), 1, "there is no database"),
        (("export", "{url}", "{folder}/no/bank.jsonl"), 1, "No such file or directory"),
        (("export", "oracle://scott:tiger@host/db"), 1, "no store is known by oracle://"),
        (("import", "{url}", "{folder}/none.jsonl"), 2, "there is no file"),
        (("import", "sqlite:///{folder}/no/new.db", "{file}"), 1, "there is no directory"),
        (("import", "oracle://scott:tiger@host/db", "{file}"), 1, "no store is known by oracle://"),
    ],
)
async def test_bad_input_is_a_sentence_without_credentials(
    new_url: NewUrl, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    file = tmp_path / "file.jsonl"
    file.write_bytes(first_line())
    names = {"url": await sqlite_with_events(new_url), "folder": tmp_path, "file": file}
    ended = await asyncio.to_thread(typed, *[argument.format(**names) for argument in arguments])
    assert ended.code == code
    assert sentence in " ".join(ended.stderr.replace("│", " ").split())
    assert "tiger" not in ended.stderr
    assert not (tmp_path / "none.db").exists()


async def test_a_file_may_stand_alone_where_a_variable_names_the_store(
    new_url: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bank.jsonl"
    one, other = await sqlite_with_events(new_url), new_url("sqlite")
    monkeypatch.setenv("REHYDRATE_SRC", one)
    assert (await asyncio.to_thread(typed, "export", file)).code == 0
    lines = file.read_bytes()
    assert (await asyncio.to_thread(typed, "export")).stdout.encode() == lines
    assert (await asyncio.to_thread(typed, "export", "-")).stdout.encode() == lines
    monkeypatch.setenv("REHYDRATE_DST", other)
    assert (await asyncio.to_thread(typed, "import", file)).code == 0
    assert (await asyncio.to_thread(typed, "export", other)).stdout.encode() == lines
    missing = await asyncio.to_thread(typed, "import", tmp_path / "none.jsonl")
    assert (missing.code, "there is no file" in missing.stderr) == (2, True)


async def test_a_command_with_a_large_event_fits_into_a_line(new_url: NewUrl, tmp_path: Path) -> None:
    urls = new_url("memory"), new_url("memory")
    async with opened(*urls) as (source, store):
        large = NewEvent("large", "T", b"\xff" * 15_000_000, b"{}")
        await source.append("a-1", [large], expected_version=0)
        lines = await exported(urls[0], tmp_path)
        assert await import_events(urls[1], given_lines(*lines)) == 0
        assert await contents(store) == await contents(source)
