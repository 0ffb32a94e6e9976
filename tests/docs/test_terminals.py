"""What follows the terminals of a page would notice a wrong one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, shown_first
from tests.docs.terminals import Terminals

PROGRAM = """\
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print("one\\ntwo", flush=True)
signal.sigwait({signal.SIGINT})
print("three", flush=True)
"""

PAGE = f"""\
<!-- terminal: a -->
```console
$ {sys.executable} program.py
one
```

<!-- terminal: a -->
```text
two
```

<!-- terminal: a -->
```text
^C
three
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    (tmp_path / "page.md").write_text(PAGE, "utf-8")
    return blocks(tmp_path / "page.md")


def _block(code: str, language: str = "text") -> Block:
    return Block(page=Path("page.md"), line=1, language=language, code=code, terminal="a")


@pytest.mark.parametrize(
    ("expected", "printed", "length"),
    [
        ("one\n", "one\ntwo\n", 4),
        ("one\n", "one", None),
        ("one\n", "two\none\n", None),
        ("...\none\n", "two\none\n", 8),
        ("o...\n", "one\n", 4),
    ],
)
def test_what_is_printed_first_is_told_from_what_is_not(
    expected: str, printed: str, length: int | None
) -> None:
    assert shown_first(expected, printed) == length


def test_a_terminal_shows_what_is_printed_bit_by_bit_until_it_is_interrupted(
    page: list[Block], tmp_path: Path
) -> None:
    with Terminals(tmp_path) as terminals:
        assert [terminals.follow(block) for block in page] == [None, None, None]


def test_what_was_printed_in_place_of_what_the_page_says_is_handed_back(
    page: list[Block], tmp_path: Path
) -> None:
    with Terminals(tmp_path) as terminals:
        assert terminals.follow(page[0]) is None
        assert terminals.follow(_block("^C\nfour\n")) == "two\nthree\n"


def test_a_program_that_was_not_killed_is_told_from_one_that_was(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        assert terminals.follow(_block("$ sh -c 'echo $$; kill -9 $$'\n...\n", "console")) is None
        assert terminals.follow(_block("Killed\n")) is None
        assert terminals.follow(_block("$ sh -c 'exit 3'\n", "console")) is None
        assert terminals.follow(_block("Killed\n")) == "ended with 3"


def test_the_same_place_is_the_same_free_port(tmp_path: Path) -> None:
    terminals = Terminals(tmp_path)
    text = terminals.with_free_ports("127.0.0.1:4222 127.0.0.1:4223 127.0.0.1:4222 127.0.0.1:42")
    first, second, third, fourth = text.split()
    assert first == third != second
    assert "127.0.0.1:4222" not in text
    assert fourth == "127.0.0.1:42"
