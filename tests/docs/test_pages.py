"""What runs the examples of the documentation would notice a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import anchor, blocks, commands, headings, matches, modules, table

PAGE = """\
# Deposits

```python
# account.py
balance = 0
```

```python
from account import balance

await pay(balance)
```

<!--
```python
hidden = 1
```
-->

<!-- not run: it needs a network -->
```python
import requests
```

```text
printed
```

<!-- exits with 1 -->
```console
$ rehydrate run \\
      --strict
line 1: ...
$ python main.py
```

## Limits

| name | what |
|---|---|
| `a` | one |
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "deposits.md"
    path.write_text(PAGE, "utf-8")
    return path


def test_blocks_come_with_what_is_said_about_them(page: Path) -> None:
    found = blocks(page)
    assert [block.language for block in found] == ["python", "python", "python", "python", "text", "console"]
    assert [block.file for block in found] == ["account.py", "", "", "", "", ""]
    assert [block.not_run for block in found] == [None, None, None, "it needs a network", None, None]
    assert [block.exits_with for block in found] == [0, 0, 0, 0, 0, 1]


def test_a_block_that_awaits_is_a_function_from_there_on_at_the_lines_of_the_page(page: Path) -> None:
    source = modules(page)["page_deposits_0.py"].splitlines()
    lines = PAGE.splitlines()
    assert source[lines.index("from account import balance")] == "from account import balance"
    assert source[lines.index("await pay(balance)")] == "    await pay(balance)"
    assert source[lines.index("await pay(balance)") - 1].startswith("async def ")
    assert source[lines.index("hidden = 1")] == "hidden = 1"
    assert "import requests" not in source


def test_a_block_that_does_not_end_is_an_error(page: Path) -> None:
    page.write_text("# Deposits\n```python\n", "utf-8")
    with pytest.raises(ValueError, match="does not end"):
        blocks(page)


def test_commands_come_with_what_they_print(page: Path) -> None:
    assert commands(blocks(page)[-1]) == [
        ("rehydrate run \\\n      --strict", "line 1: ...\n"),
        ("python main.py", ""),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "is_match"),
    [
        ("one\ntwo\n", "one\ntwo", True),
        ("one  \n", "one\n\n", True),
        ("one\n", "one\ntwo\n", False),
        ("", "", True),
        ("", "one\n", False),
        ("one ... three", "one two three", True),
        ("one ... three", "one\nthree", False),
        ("one\n...\nthree", "one\nthree", True),
        ("one\n...\nthree", "one\ntwo\ntwo\nthree", True),
        ("(a|b)", "a", False),
    ],
)
def test_three_dots_stand_for_anything_and_the_rest_for_itself(
    expected: str, printed: str, is_match: bool
) -> None:
    assert matches(expected, printed) is is_match


def test_headings_and_tables_are_found(page: Path) -> None:
    assert headings(page) == [(1, "Deposits"), (2, "Limits")]
    assert table(page, "Limits") == [["`a`", "one"]]
    assert anchor("From HTTP, with `Idempotency-Key`") == "from-http-with-idempotency-key"
