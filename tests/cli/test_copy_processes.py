"""Copies as processes: killed, interrupted, run twice at once, watched at a terminal, and measured."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path

import pytest

from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.testing.conformance.material import log_events, sound_log
from tests.cli.conftest import NewUrl
from tests.cli.moving import contents, opened, place, views_of
from tests.cli.terminal import HANG_LIMIT, ROOT, process, started
from tests.cli.test_terminal import seen, terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals as POSIX has them")


async def fill_fast(store: Store, appends: int, *, streams: int = 50, size: int = 20) -> None:
    """Commands of one to three events, many appends at a time."""
    chance = random.Random(5)
    versions = [0] * streams
    for start in range(0, appends, streams):
        group: list[Coroutine[None, None, Appended]] = []
        for stream in chance.sample(range(streams), min(streams, appends - start)):
            count = chance.randint(1, 3)
            events = [
                NewEvent(
                    f"{start}.{stream}.{n}", "T", b"x" * size, b'{"command_id":"%d.%d"}' % (start, stream)
                )
                for n in range(count)
            ]
            group.append(store.append(f"s-{stream}", events, expected_version=versions[stream]))
            versions[stream] += count
        await asyncio.gather(*group)


async def grown(store: Store, running: subprocess.Popen[bytes], by: int) -> None:
    """Return when the store has got so many events more, or the process has ended."""
    head = (await store.head()).position
    while running.poll() is None and (await store.head()).position < head + by:
        pass


@pytest.mark.parametrize(
    "kinds",
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgresql"),
        # Slow: ten seconds each, and in the code of the copy no different from the first two.
        pytest.param(("postgresql", "mongodb"), marks=pytest.mark.slow),
        pytest.param(("mongodb", "sqlite"), marks=pytest.mark.slow),
    ],
    ids=" to ".join,
)
async def test_a_copy_that_is_killed_again_and_again_stores_every_event_once_and_in_order(
    new_url: NewUrl, kinds: tuple[str, str]
) -> None:
    chance = random.Random(7)
    urls = new_url(kinds[0]), new_url(kinds[1])
    async with opened(*urls) as (source, destination):
        await fill_fast(source, 6_000)
        log = await log_events(source)
        whole = await contents(source)
        await place(source, "balances", log[-1], views=[(f"k{n}", b"%d" % n) for n in range(500)])
        kills = 0
        while (await destination.head()).position < len(log) - 3_000:
            with started("copy", *urls) as running:
                await grown(destination, running, chance.randrange(1, 4_000))
                running.kill()
                kills += running.wait(HANG_LIMIT) == -signal.SIGKILL
            copied = await contents(destination)
            assert copied == whole[: len(copied)]
        assert kills > 1
        last = await asyncio.to_thread(process, "copy", *urls)
        assert last.code == 0
        assert "were there before" in last.stderr
        assert await contents(destination) == whole
        await sound_log(destination)
        assert await views_of(destination, "balances") == await views_of(source, "balances")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupt_ends_a_copy_in_order_and_the_same_call_goes_on(
    new_url: NewUrl, number: signal.Signals, code: int
) -> None:
    urls = new_url("sqlite"), new_url("sqlite")
    async with opened(*urls) as (source, destination):
        await fill_fast(source, 8_000)
        with started("copy", *urls, "--seal") as running:
            await grown(destination, running, 1)
            running.send_signal(number)
            _, said = await asyncio.to_thread(running.communicate, timeout=HANG_LIMIT)
        assert running.returncode == code
        assert said.decode() == (
            "rehydrate: interrupted: what was copied stays, and the same call goes on there\n"
        )
        stored = await contents(destination)
        whole = await contents(source)
        assert 0 < len(stored) < len(whole)
        assert stored == whole[: len(stored)]
        # It was not sealed yet.
        await source.append("late-1", [NewEvent("late", "T", b"{}")], expected_version=0)
        again = await asyncio.to_thread(process, "copy", *urls, "--seal")
        assert again.code == 0
        assert await contents(destination) == await contents(source)


async def test_the_stores_may_be_named_by_the_environment(new_url: NewUrl, tmp_path: Path) -> None:
    one, other, third = new_url("sqlite"), new_url("sqlite"), new_url("sqlite")
    async with opened(one, other, third) as stores:
        await fill_fast(stores[0], 50)
        copied = process("copy", REHYDRATE_SRC=one, REHYDRATE_DST=other)
        assert copied.code == 0, copied.stderr
        lines = process("export", REHYDRATE_SRC=one).stdout
        assert process("import", stdin=lines, REHYDRATE_DST=third).code == 0
        first, second, last = [await contents(store) for store in stores]
        assert first == second == last


async def test_two_copies_at_once_store_every_event_once(new_url: NewUrl) -> None:
    urls = new_url("sqlite"), new_url("sqlite")
    async with opened(*urls) as (source, destination):
        await fill_fast(source, 4_000)
        both = [started("copy", *urls) for _ in range(2)]
        ends = [await asyncio.to_thread(running.communicate, timeout=HANG_LIMIT) for running in both]
        assert {running.returncode for running in both} <= {0, 1}
        for running, (_, said) in zip(both, ends, strict=True):
            # Whoever is behind may notice that somebody else writes to the destination.
            assert running.returncode == 0 or len(said.splitlines()) == 1, said
        stored = await contents(destination)
        assert stored == (await contents(source))[: len(stored)]
        assert (await asyncio.to_thread(process, "copy", *urls)).code == 0
        assert await contents(destination) == await contents(source)


async def test_an_import_that_is_killed_goes_on(new_url: NewUrl, tmp_path: Path) -> None:
    urls = new_url("sqlite"), new_url("sqlite")
    file = tmp_path / "events.jsonl"
    async with opened(*urls) as (source, destination):
        await fill_fast(source, 8_000)
        assert (await asyncio.to_thread(process, "export", urls[0], file)).code == 0
        with started("import", urls[1], file) as running:
            await grown(destination, running, 1_000)
            running.kill()
            assert running.wait(HANG_LIMIT) == -signal.SIGKILL
        stored = await contents(destination)
        assert stored == (await contents(source))[: len(stored)]
        again = await asyncio.to_thread(process, "import", urls[1], file)
        assert again.code == 0
        assert "were there before" in again.stderr
        assert await contents(destination) == await contents(source)


async def test_a_reader_that_goes_away_ends_an_export_silently(new_url: NewUrl) -> None:
    url = new_url("sqlite")
    async with opened(url) as (store,):
        await fill_fast(store, 5_000)
        with started("export", url) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            assert (
                await asyncio.to_thread(running.stdout.readline)
                == b'{"format":"rehydrate events","version":1}\n'
            )
            running.stdout.close()
            assert await asyncio.to_thread(running.stderr.read) == b""
            assert running.wait(HANG_LIMIT) == 141


async def test_an_interrupted_export_leaves_no_file(new_url: NewUrl, tmp_path: Path) -> None:
    url = new_url("sqlite")
    file, part = tmp_path / "events.jsonl", tmp_path / "events.jsonl.part"
    async with opened(url) as (store,):
        await fill_fast(store, 30_000)
        with started("export", url, file) as running:
            while running.poll() is None and not (part.exists() and part.stat().st_size):
                pass
            running.send_signal(signal.SIGINT)
            _, said = await asyncio.to_thread(running.communicate, timeout=HANG_LIMIT)
        assert (running.returncode, said.decode()) == (130, f"rehydrate: interrupted: there is no {file}\n")
        assert not file.exists()
        assert not part.exists()


async def test_a_bar_shows_what_is_done_and_is_taken_away_for_the_summary(new_url: NewUrl) -> None:
    urls = new_url("sqlite"), new_url("sqlite")
    async with opened(urls[0]) as (store,):
        await fill_fast(store, 5_000)
    with terminal() as (person, program):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        running = subprocess.Popen(
            [sys.executable, "-m", "rehydrate.cli", "copy", *urls],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=program, cwd=ROOT, env=environment,
        )  # fmt: skip
        os.close(program)
        shown = await asyncio.to_thread(seen, person, "then takes no more")
        assert running.wait(HANG_LIMIT) == 0
    assert "copying" in shown
    assert "%" in shown
    assert "\x1b[?25h" in shown, "the cursor is back"


MEASURED = """
import resource, sys
from rehydrate.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["copy", "export", "import"])
async def test_memory_does_not_grow_with_the_log(new_url: NewUrl, tmp_path: Path, command: str) -> None:
    """Slow: it takes a log that is much larger than what is read at a time."""
    used: list[int] = []
    for appends in (2_000, 40_000):
        url, other, file = new_url("sqlite"), new_url("sqlite"), tmp_path / f"{appends}.jsonl"
        async with opened(url) as (store,):
            await fill_fast(store, appends, size=1_000)
        arguments: dict[str, list[str | Path]] = {
            "copy": [url, other],
            "export": [url, file],
            "import": [other, file],
        }
        if command == "import":
            assert (await asyncio.to_thread(process, "export", url, file)).code == 0
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", MEASURED, command, *map(str, arguments[command])],
            capture_output=True, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        used.append(int(ran.stdout.split()[-1]))
    # The larger log has 80 MB.
    assert used[1] - used[0] < 30_000, used
