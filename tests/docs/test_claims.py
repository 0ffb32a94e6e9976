"""What the pages say in tables is what the code does."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import rehydrate
import rehydrate.testing
from rehydrate import errors
from rehydrate.runtime.limits import Limits
from rehydrate.telemetry import Statistics
from tests.docs.pages import IDS, PAGES, ROOT, anchor, blocks, headings, table

DOCS = ROOT / "docs"
CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, errors.RehydrateError)
}


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    (tree,) = (block.code for block in blocks(DOCS / "errors.md") if "├──" in block.code)
    above: list[str] = []
    drawn: dict[str, str] = {}
    for line in tree.splitlines():
        if name := re.match(r"^([│├└─ ]*)(\w+Error)\b", line):
            del above[len(name[1]) // 4 :]
            drawn[name[2]] = above[-1] if above else "Exception"
            above.append(name[2])
    assert drawn == {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items()}


def test_the_table_of_errors_has_each_error_that_is_raised_with_its_facts() -> None:
    rows = {_code(row[0])[0]: row for row in table(DOCS / "errors.md", "Each of them")}
    parents = {cls.__bases__[0].__name__ for cls in CLASSES.values()}
    assert set(rows) == set(CLASSES) - parents
    for name, row in rows.items():
        assert row[2], f"{name}: stored?"
        assert row[3], f"{name}: try again?"
        assert set(_code(row[4])) == _facts(CLASSES[name]), name


def _facts(error: type[Exception]) -> set[str]:
    init = vars(error).get("__init__")
    return set(re.findall(r"self\.(\w+) = ", inspect.getsource(init))) if init else set()


def test_the_table_of_limits_has_their_names_and_defaults() -> None:
    rows = {_code(row[0])[0]: row[1] for row in table(DOCS / "runtime.md", "Limits")}
    defaults = msgspec.structs.asdict(Limits())
    assert {name: float(value.replace(",", "").split()[0]) for name, value in rows.items()} == defaults


def test_the_table_of_statistics_has_all_of_them() -> None:
    rows = [_code(row[0])[0] for row in table(DOCS / "runtime.md", "Statistics")]
    assert rows == list(Statistics.__struct_fields__)


async def test_the_table_of_parameters_of_sqlite_has_all_of_them() -> None:
    rows = [_code(row[0])[0] for row in table(DOCS / "stores.md", "sqlite")]
    with pytest.raises(rehydrate.ConfigurationError, match=rf"\(there is: {', '.join(sorted(rows))}\)"):
        await rehydrate.open_store("sqlite:///bank.db?unknown=1")


def test_each_test_that_proves_a_guarantee_exists() -> None:
    named = re.findall(r"`((?:tests|src)/[\w/]+\.py)::(\w+)`", (DOCS / "guarantees.md").read_text("utf-8"))
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if test not in _functions(ROOT / file)]
    assert missing == []


async def test_the_tables_of_guarantees_say_yes_where_the_store_declares_it(
    tmp_path: Path, postgres_url: str, mongodb_url: str, nats_url: str
) -> None:
    urls = [
        "memory://",
        "memory://bank",
        f"sqlite:///{tmp_path}/bank.db",
        postgres_url,
        mongodb_url,
        nats_url,
    ]
    stores = [await rehydrate.open_store(url) for url in urls]
    checked = 0
    for _, heading in headings(DOCS / "guarantees.md"):
        for row in table(DOCS / "guarantees.md", heading) if heading in LAWS else ():
            if "/conformance/" not in row[7]:
                continue
            file, law = row[7].strip("`").split("::")
            needs, lacks = _declared(ROOT / file, law)
            for store, cell in zip(stores, row[1:7], strict=True):
                has = store.capabilities
                is_restore_of_private = file.endswith("restores.py") and has.single_writer
                applies = all(getattr(has, name) for name in needs) and not any(
                    getattr(has, name) for name in lacks
                )
                assert cell.startswith("yes") is (applies and not is_restore_of_private), (
                    f"{row[0]} {store.url}"
                )
                checked += 1
    for store in stores:
        await store.close()
    assert checked > 50


LAWS = ("Appends", "Order", "Durability", "Snapshots and checkpoints", "Lifecycle")


def _declared(file: Path, law: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a law needs and lacks, as its decorator says."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == law:
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "law":
                    said = {word.arg: word.value for word in decorator.keywords}
                    needs, lacks = (
                        ast.literal_eval(said[name]) if name in said else () for name in ("needs", "lacks")
                    )
                    return needs, lacks
    raise ValueError(f"{file}: {law} is not a law")


def _functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_table_of_dependencies_has_each_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    required = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {re.split(r"[\[><=~! ]", line)[0] for line in required} - {"rehydrate"}
    rows = {name for row in table(DOCS / "dependencies.md", "What there is") for name in _code(row[0])}
    assert rows == names | {"hatchling"}


@pytest.mark.parametrize("module", [rehydrate, rehydrate.testing], ids=lambda module: module.__name__)
def test_each_public_name_is_on_some_page(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not _is_on_some_page(name)] == []


@pytest.mark.parametrize("name", ["given", "given_views", "given_process", "clock", "faults"])
def test_each_public_name_for_tests_is_on_some_page(name: str) -> None:
    module = importlib.import_module(f"rehydrate.testing.{name}")
    names = [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and not name.startswith("_")
        and value.__module__ == module.__name__
    ]
    assert names
    assert [name for name in names if not _is_on_some_page(name)] == []


def _is_on_some_page(name: str) -> bool:
    return any(re.search(rf"\b{name}\b", page.read_text("utf-8")) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, fragment = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        if fragment:
            assert fragment in {anchor(heading) for _, heading in headings(there)}, f"{page.name}: {target}"


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_has_one_title_and_names_no_place_of_one_machine(page: Path) -> None:
    assert [level for level, _ in headings(page)].count(1) == 1
    places = re.findall(
        r"(?<![\w.:/])/(?:home|root|work|tmp|mnt|Users|var|private)/\S*", page.read_text("utf-8")
    )
    assert places == []
