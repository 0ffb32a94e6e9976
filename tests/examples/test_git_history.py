"""The git history example: whatever a repository holds, the files that live in the store are those of its head."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.git_history.commands import lines_of
from examples.git_history.living import compare, living_files
from examples.git_history.paths import MAX_ID_BYTES, id_of
from examples.git_history.repository import Entry, NoHistoryError, Repository
from rehydrate.domain.streams import check_id
from tests.cli.terminal import Ended, typed
from tests.examples.history import FILE, LINK, PROGRAM, SUBMODULE, Content, History, file

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: install it")

APP = "examples.git_history.app:app"


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def run(path: Path, folder: Path, *, name: str = "history") -> Ended:
    """Feed a history to `rehydrate run`; what lives must then be what the head has."""
    repository = Repository(path)
    lines = b"".join(line for change in repository.changes() for line in lines_of(change))
    url = f"sqlite:///{folder}/history.db"
    ended = typed("run", APP, "--store", url, "--run", name, stdin=lines)
    difference = compare(asyncio.run(living_files(url)), repository.living())
    assert not difference, difference.lines()
    return ended


def all_accepted(ended: Ended) -> list[str]:
    """The events of all answers, as `Type id`; none was refused, none failed."""
    assert ended.code == 0
    assert all("events" in answer for answer in ended.answers)
    return [f"{answer['events'][0]['type']} {answer['id']}" for answer in ended.answers]


def test_what_is_added_changed_renamed_and_deleted(history: History, tmp_path: Path) -> None:
    long = "a line that makes the file long enough to be recognised\n" * 20
    history.commit({"kept": file("1"), "changed": file("1"), "old name": file(long), "gone": file("2")})
    history.commit({"changed": file("2")})
    history.commit({"old name": None, "new name": file(long + "and one more")})
    history.commit({"gone": None})
    assert sorted(all_accepted(run(history.write(), tmp_path))[4:]) == [
        "Deleted gone", "Modified changed", "RenamedFrom new name", "RenamedTo old name",
    ]  # fmt: skip


def test_modes_links_and_submodules(history: History, tmp_path: Path) -> None:
    commit = b"1234567890" * 4
    history.commit(
        {"run": file("1"), "link": (LINK, b"run"), "module": (SUBMODULE, commit), "turns": file("2")}
    )
    history.commit({"run": (PROGRAM, b"1"), "turns": (LINK, b"run")})
    history.commit({"module": (SUBMODULE, commit[::-1]), "turns": (SUBMODULE, commit)})
    history.commit({"link": file("now a file"), "module": None})
    assert "Modified run" in all_accepted(run(history.write(), tmp_path))


def test_a_file_becomes_a_directory_and_a_directory_a_file(history: History, tmp_path: Path) -> None:
    history.commit(
        {"a": file("a file of its own"), "b/c": file("in a directory"), "b/d": file("and another")}
    )
    history.commit(
        {"a": None, "a/x": file("below"), "a/y": file("below, too"), "b/c": None, "b/d": None, "b": file("b")}
    )
    history.commit({"a/x": None, "a/y": None, "a": file("a file again")})
    all_accepted(run(history.write(), tmp_path))


def test_files_that_swap_their_names_and_files_that_are_copied(history: History, tmp_path: Path) -> None:
    one, two = "one\n" * 50, "two\n" * 50
    history.commit({"a": file(one), "b": file(two)})
    history.commit({"a": file(two), "b": file(one)})
    history.commit({"copy of a": file(two), "another copy of a": file(two)})
    history.commit({"a": None, "b": None, "c": file(two), "d": file(two), "e": file(one)})
    all_accepted(run(history.write(), tmp_path))


ODD_PATHS: list[str | bytes] = [
    "a new\nline", 'a "quote"', "a\ttab", "back\\slash", "per%cent", "per%25cent", "é", b"\xff\xfe", b"caf\xe9",
    "-dash", " space ", "ünïcödé/ネコ/🐈", "\x01\x7f", "\u202eright to left", ":colon", "%sha256:" + "0" * 64,
    "long/" * 150 + "a", "long/" * 150 + "b", b"long-\xff/" * 120 + b"c",
]  # fmt: skip


def test_paths_of_any_bytes_and_any_length(history: History, tmp_path: Path) -> None:
    history.commit({path: file(f"{path!r}") for path in ODD_PATHS})
    history.commit({path: file(f"{path!r} changed") for path in ODD_PATHS[::2]})
    history.commit(dict.fromkeys(ODD_PATHS[::3]))
    assert len(all_accepted(run(history.write(), tmp_path))) == len(ODD_PATHS) + 10 + 7


def test_a_merge_is_its_difference_to_the_first_parent(history: History, tmp_path: Path) -> None:
    root = history.commit({"shared": file("1"), "ours": file("1"), "theirs": file("1")})
    side = history.commit({"theirs": file("2"), "side": file("s"), "shared": file("side")}, parents=[root])
    other = history.commit({"other": file("o")}, parents=[root])
    unrelated = history.commit({"from elsewhere": file("e")}, parents=[])
    main = history.commit({"ours": file("2"), "shared": file("main")}, parents=[root])
    merged = history.commit(
        {"theirs": file("2"), "side": file("s"), "other": file("o"), "shared": file("both")},
        parents=[main, side, other, unrelated],
    )
    history.commit({"ours": None}, parents=[merged])
    events = all_accepted(run(history.write(), tmp_path))
    assert len(events) == 3 + 2 + 4 + 1
    assert "Added side" in events


def test_empty_commits_change_nothing(history: History, tmp_path: Path) -> None:
    history.commit({})
    history.commit({"a": file("1")})
    history.commit({})
    assert all_accepted(run(history.write(), tmp_path)) == ["Added a"]


def test_a_shallow_clone_begins_with_all_that_was_there(history: History, tmp_path: Path) -> None:
    for number in range(6):
        history.commit({"a": file(f"{number}"), f"n{number}": file("x")})
    history.write()
    history.git("clone", "--quiet", "--depth=2", f"file://{history.path}", str(tmp_path / "shallow"))
    assert len(all_accepted(run(tmp_path / "shallow", tmp_path))) == 6 + 2


def test_settings_of_the_user_and_a_folder_inside_make_no_difference(
    history: History, tmp_path: Path
) -> None:
    text = "something that is long enough\n" * 20
    history.commit({"in/a": file(text), "b": file("1"), "m": (SUBMODULE, b"12345678" * 5)})
    history.commit(
        {"in/a": None, "in/c": file(text), "in/copy": file(text), "m": (SUBMODULE, b"87654321" * 5)}
    )
    history.write()
    history.git("clone", "--quiet", str(history.path), str(tmp_path / "clone"))
    for setting in (
        "diff.renames=copies", "diff.relative=true", "diff.noprefix=true", "diff.ignoreSubmodules=all",
        "log.showSignature=true", "core.quotePath=true", "color.ui=always", "diff.external=false",
    ):  # fmt: skip
        history.git("config", *setting.split("="), cwd=tmp_path / "clone")
    assert len(all_accepted(run(tmp_path / "clone" / "in", tmp_path))) == 3 + 2 + 1 + 1


def test_variables_that_point_git_elsewhere_are_not_followed(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.commit({"a": file("1")})
    history.write()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert all_accepted(run(history.path, tmp_path)) == ["Added a"]


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_with_merges_comes_out_as_its_head(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    history = History(tmp_path)
    names = [f"{a}{b}" for a in ("", "d/", "d/e/", "f/") for b in "xyz"]

    def change() -> Content:
        text = f"{chance.randrange(4)}\n" * 30 + f"{chance.randrange(3)}\n"
        return chance.choice([None, (FILE, text.encode()), (PROGRAM, text.encode()), (FILE, text.encode())])

    commits = [history.commit({"x": file("1")})]
    for _ in range(40):
        parents = chance.sample(commits[-4:], min(len(commits), chance.choice([1, 1, 1, 2])))
        changes = {name: change() for name in chance.sample(names, 3)}
        commits.append(history.commit(changes, parents=parents))
    all_accepted(run(history.write(), tmp_path))


def test_impossible_changes_are_refused(history: History, tmp_path: Path) -> None:
    history.commit({"a": file("1")})
    history.commit({"a": file("2")})
    history.commit({"a": None})
    path = history.write()
    all_accepted(run(path, tmp_path))
    # The same history on top of itself: the file is added, changed and deleted once more, and nothing else is.
    repository = Repository(path)
    add, modify, delete = (next(iter(lines_of(change))) for change in repository.changes())
    url = f"sqlite:///{tmp_path}/history.db"
    ended = typed(
        "run", APP, "--store", url, stdin=delete + modify + add + add + modify + modify + delete + delete
    )
    refused = [answer["rejection"]["type"] if "rejection" in answer else "" for answer in ended.answers]
    assert refused == ["NotThere", "NotThere", "", "AlreadyThere", "", "NothingChanged", "", "NotThere"]


def test_a_difference_says_what_only_one_side_has() -> None:
    entry = Entry("100644", "1")
    difference = compare(
        {"a": entry, "b": entry, "c": entry}, {b"b": entry, b"c": Entry("100755", "1"), b"d": entry}
    )
    assert difference
    assert difference.lines() == ["- d", "+ a", "! c"]
    assert not compare({"a%0A": entry}, {b"a\n": entry})


@pytest.mark.parametrize("kind", ["no directory", "no repository", "no commit"])
def test_without_a_history_there_is_one_sentence(kind: str, history: History, tmp_path: Path) -> None:
    path = tmp_path / "none" if kind == "no directory" else tmp_path
    if kind == "no commit":
        path = history.write()
    with pytest.raises(NoHistoryError) as said:
        Repository(path)
    assert len(str(said.value).splitlines()) == 1


def test_without_git_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoHistoryError, match="git is not installed"):
        Repository(tmp_path)


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=700), st.binary(min_size=1, max_size=700))
def test_every_path_has_an_id_and_no_two_the_same(one: bytes, other: bytes) -> None:
    check_id(id_of(one))
    assert len(id_of(one).encode()) <= MAX_ID_BYTES
    assert id_of(one).isprintable()
    assert (id_of(one) == id_of(other)) == (one == other)
