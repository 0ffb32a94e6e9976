"""A URL becomes a store, or one clear sentence."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rehydrate.clock import Clock
from rehydrate.errors import ConfigurationError
from rehydrate.store import url as store_url_module
from rehydrate.store.port import Store
from rehydrate.store.url import BACKENDS, Backend, open_store
from rehydrate.store_url import StoreUrl

SECRET = "s3cr3t"


async def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await open_store(url)
    return str(refused.value)


# ---- what leads to a store


async def test_memory_and_sqlite_are_opened(tmp_path: Path) -> None:
    for url in ("memory://", "memory://bank", f"sqlite:///{tmp_path}/bank.db"):
        store = await open_store(url)
        assert store.url == url
        await store.close()


async def test_a_relative_path_is_relative_to_where_the_store_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///bank.db")
    monkeypatch.chdir("/")
    assert await store.versions(["account-1"]) == [0]
    await store.close()
    assert (tmp_path / "bank.db").exists()


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a#b.db", "a%41.db", "ä'\"*.db", "me@home.db"])
async def test_a_file_may_have_any_name_that_is_percent_encoded(tmp_path: Path, name: str) -> None:
    encoded = name.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    store = await open_store(f"sqlite:///{tmp_path}/{encoded}")
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


async def test_another_package_registers_a_store_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, EntryPoint("mine", "my_package.stores:open_mine", store_url_module.ENTRY_POINTS))
    module = ModuleType("my_package.stores")
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, "my_package.stores", module)

    async def open_mine(url: StoreUrl, clock: Clock) -> Store:
        assert url.host == "here"
        return await open_store("memory://mine", clock=clock)

    monkeypatch.setattr(module, "open_mine", open_mine, raising=False)
    store = await open_store("mine://here")
    assert store.url == "memory://mine"
    await store.close()


# ---- what does not


async def test_an_unknown_scheme_names_the_known_ones() -> None:
    assert (
        await refusal("oracle://db")
        == "no store is known by oracle:// (known: memory://, mongodb://, mongodb+srv://, nats://, postgresql://, sqlite://)"
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgres://localhost/bank", "postgresql"),
        ("postgresql+asyncpg://localhost/bank", "postgresql"),
        ("sqlite+aiosqlite:///bank.db", "sqlite"),
        ("mongodb+motor://localhost/bank", "mongodb"),
        ("mongo://localhost/bank", "mongodb"),
        ("file:///bank.db", "sqlite"),
    ],
)
async def test_what_others_call_a_scheme_is_told_its_name_here(given: str, meant: str) -> None:
    assert await refusal(given) == f"no store is known by {given.partition('://')[0]}://: write {meant}://"


@pytest.mark.parametrize("url", ["bank.db", "", "://", "sqlite:/bank.db", f"user:{SECRET}@host/db"])
async def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    said = await refusal(url)
    assert "sqlite:///bank.db" in said
    assert SECRET not in said


async def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BACKENDS, "far", Backend("no_such_driver_of_ours", "open_far", extra="far"))
    assert "pip install 'rehydrate[far]'" in await refusal("far://host/db")


async def test_a_python_without_sqlite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "sqlite", Backend("no_such_module_of_python", "open_sqlite"))
    assert "does not work in this Python" in await refusal("sqlite:///bank.db")


async def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, EntryPoint("broken", "no_such_package:open", store_url_module.ENTRY_POINTS))
    assert "broken:// of its package cannot be loaded" in await refusal("broken://")
    assert "known: broken://, memory://" in await refusal("other://")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "bussy=1",
            "there is no parameter 'bussy' (there is: busy_timeout, migrate, poll, readers, synchronous)",
        ),
        ("busy_timeout=abc", "busy_timeout='abc' must be a number of seconds above 0"),
        ("busy_timeout=-1", "must be a number of seconds above 0"),
        ("busy_timeout=nan", "must be a number of seconds above 0"),
        ("poll=inf", "must be a number of seconds above 0"),
        ("poll=0", "must be a number of seconds above 0"),
        ("readers=0", "readers='0' must be a whole number of at least 1"),
        ("readers=1.5", "must be a whole number"),
        ("readers=²", "must be a whole number"),
        ("synchronous=off", "synchronous='off' must be one of full, normal"),
        ("synchronous=", "synchronous='' must be one of full, normal"),
        ("poll=1&poll=2", "the parameter 'poll' is given twice"),
    ],
)
async def test_a_wrong_parameter_is_named_and_nothing_is_created(
    tmp_path: Path, query: str, said: str
) -> None:
    assert said in await refusal(f"sqlite:///{tmp_path}/bank.db?{query}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://bank.db", "a file takes three slashes: sqlite:///bank.db"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite:///:memory:", "memory:// is a store in memory"),
        ("sqlite:///bank.db#1", "write it as %23"),
        ("memory:///bank", "memory://NAME"),
        ("memory://?x=1", "there is no parameter 'x' (there is: none)"),
        ("sqlite:///bank%00.db", "holds U+0000"),
        (f"sqlite:///{'a' * 300}.db", "cannot be opened: File name too long"),
        ("postgresql://\udcff@localhost/bank", "holds a lone surrogate"),
        ("mongodb://\udcff/bank", "holds a lone surrogate"),
        ("nats://[::1/bank", "'[::1' is not HOST or HOST:PORT"),
    ],
)
async def test_a_url_that_means_something_else_says_what_to_write(url: str, said: str) -> None:
    assert said in await refusal(url)


# ---- credentials


@pytest.mark.parametrize(
    "url",
    [
        f"memory://user:{SECRET}@host/db",
        f"memory://user:{SECRET}@host?x=1",
        f"memory://user:{SECRET}/x@host/db",
        f"memory://user:{SECRET}?x@host/db",
        f"memory://user:{SECRET}#x@host/db",
        f"unknown://user:{SECRET}@host/db",
        f"sqlite://user:{SECRET}@/db",
        f"sqlite://user:{SECRET}@host/db",
        f"sqlite:///bank.db?password={SECRET}",
    ],
)
async def test_credentials_are_never_shown(url: str) -> None:
    assert SECRET not in await refusal(url)


def test_a_url_is_taken_apart() -> None:
    url = StoreUrl("scheme://u%40x:p%2Fw@one:1,two:2/a%20b?name=a%26b&count=3&wait=1.5&mode=slow")
    assert (url.scheme, url.host, url.path) == ("scheme", "one:1,two:2", "a b")
    assert (url.user, url.password) == ("u@x", "p/w")
    assert url.shown == "scheme://one:1,two:2/a%20b"
    assert url.text("name", default="") == "a&b"
    assert url.number("count", default=1) == 3
    assert url.seconds("wait", default=1.0) == 1.5
    assert url.choice("mode", ("fast", "slow"), default="fast") == "slow"
    with pytest.raises(ConfigurationError, match=r"must be one of on, off$"):
        # What stands for "not given" is no choice to be named.
        StoreUrl("x://?lamp=dim").choice("lamp", ("", "on", "off"), default="")
    assert url.number("absent", default=7) == 7
    url.refuse_the_rest()


def _register(monkeypatch: pytest.MonkeyPatch, point: EntryPoint) -> None:
    def points(*, group: str) -> Iterator[EntryPoint]:
        return iter([point] if group == point.group else [])

    monkeypatch.setattr(store_url_module, "entry_points", points)


@pytest.mark.parametrize("given", [Path("bank.db"), None, b"memory://"])
async def test_what_is_no_text_is_no_url(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no URL of a store: a store's URL looks like"):
        await open_store(given)
