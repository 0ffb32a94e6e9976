"""The pages of the documentation, and the examples in them as code that runs.

A page is a module. Its `python` blocks run in order in one namespace; from its first statement that awaits on, a block
is the body of a coroutine function. Lines keep their numbers, so that a traceback and a type checker point into the page.

    a `python` block that begins with `# name.py`    is written to that file, and not run itself
    a `text` block after a `python` block            is what it prints
    a `console` block                                is run, and what it prints is compared: `...` stands for anything
    <!-- file: name -->                              before a block: it is written to that file
    <!-- not run: reason -->                         before a block: it is neither run nor checked
    <!-- exits with 1 -->                            before a `console` block: how its last command ends
    <!-- terminal: name -->                          before a `console` block: it runs in the background, and has printed
                                                     this; before a `text` block: what it prints next, from `^C` on
                                                     after Ctrl-C; `Killed` where a `kill -9` has ended it
    <!-- new namespace -->                           what stands above is forgotten, files excepted

Where a page has terminals, 127.0.0.1:4200 to 4299 are other ports, which are free. The files of the README are there for every page. A fence in an HTML comment counts like any other: that is how a page
hides what would only distract.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
README: Final = ROOT / "README.md"
PAGES: Final = (README, *sorted((ROOT / "docs").glob("*.md")))
IDS: Final = [page.relative_to(ROOT).as_posix() for page in PAGES]

LANGUAGES: Final = {"python", "text", "console", "sql", "toml", "json", "jsonl", "yaml", "make", ""}
"""What a fence may say; in a block without a language is no example."""

_FENCE = re.compile(r"^```(\w*)$")
_DIRECTIVE = re.compile(r"^<!-- (file|not run|exits with|terminal|new namespace):? ?(.*?) ?-->$")
_FILE = re.compile(r"^# ([\w./]+\.py)\n")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page, and what the comment before it says about it."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    code: str
    file: str = ""
    not_run: str | None = None
    exits_with: int = 0
    terminal: str = ""
    namespace: int = 0

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def awaits_from(self) -> int | None:
        """The line, from 0, of the first statement that awaits outside of a function."""
        for statement in ast.parse(self.code).body:
            module = ast.Module([statement], type_ignores=[])
            code = compile(module, self.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                return statement.lineno - 1
        return None

    @property
    def function(self) -> str:
        """The name of the coroutine function that the part of a block which awaits becomes."""
        return f"example_{self.line}"

    def lines(self) -> list[str]:
        """The block from its fence on; the line before the first that awaits holds the head of the function."""
        lines = ["", *self.code.splitlines()]
        start = self.awaits_from
        if start is None:
            return lines
        if lines[start]:
            raise ValueError(f"{self.place}: leave a line free before the first statement that awaits")
        body = (f"    {line}" if line else "" for line in lines[start + 1 :])
        return [*lines[:start], f"async def {self.function}() -> None:", *body]

    def source(self) -> str:
        """What is run, at the line numbers of the page."""
        return "\n" * (self.line - 2) + "\n".join(self.lines()) + "\n"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return list(_blocks(page, page.read_text("utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    said: dict[str, str] = {}
    namespace = 0
    language: str | None = None
    start = 0
    for number, line in enumerate(lines, 1):
        if language is not None:
            if line == "```":
                code = "\n".join(lines[start - 1 : number - 1]) + "\n"
                yield _block(page, start, language, code, said, namespace)
                language, said = None, {}
        elif fence := _FENCE.match(line):
            language, start = fence[1], number + 1
        elif directive := _DIRECTIVE.match(line):
            if directive[1] == "new namespace":
                namespace += 1
            else:
                said[directive[1]] = directive[2]
        elif line and line != "<!--":
            said = {}
    if language is not None:
        raise ValueError(f"{page}: the block at line {start} does not end")


def _block(page: Path, line: int, language: str, code: str, said: dict[str, str], namespace: int) -> Block:
    file = said.get("file", "")
    if language == "python" and not file and (named := _FILE.match(code)):
        file = named[1]
    return Block(
        page=page,
        line=line,
        language=language,
        code=code,
        file=file,
        not_run=said.get("not run"),
        exits_with=int(said.get("exits with", 0)),
        terminal=said.get("terminal", ""),
        namespace=namespace,
    )


def modules(page: Path) -> dict[str, str]:
    """The `python` blocks of a page as source files for a type checker: each namespace is a module, and so is a file."""
    found: dict[str, str] = {}
    lines: dict[int, list[str]] = {}
    for block in blocks(page):
        if block.language != "python" or block.not_run is not None:
            continue
        if block.file:
            found[block.file] = block.code
        else:
            kept = lines.setdefault(block.namespace, [])
            kept += [""] * (block.line - 2 - len(kept))
            kept += block.lines()
    stem = page.stem.lower()
    for namespace, kept in lines.items():
        found[f"page_{stem}_{namespace}.py"] = "\n".join(kept) + "\n"
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether that was printed; `...` in the expected text stands for anything, alone on a line for any lines."""
    actual = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch(_pattern(expected), actual) is not None


def shown_first(expected: str, printed: str) -> int | None:
    """How much of what was printed that is, from its beginning; None if it is (still) something else."""
    found = re.match(_pattern(expected), printed)
    return found.end() if found else None


def _pattern(expected: str) -> str:
    return "".join(_line_pattern(line) for line in expected.rstrip().splitlines())


def _line_pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    return re.escape(line.rstrip()).replace(re.escape("..."), ".*") + r"\n"


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a `console` block, each with what it prints."""
    found: list[tuple[str, str]] = []
    is_continued = False
    for line in block.code.splitlines():
        if is_continued:
            found[-1] = (f"{found[-1][0]}\n{line}", "")
        elif line.startswith("$ "):
            found.append((line[2:], ""))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        else:
            raise ValueError(f"{block.place}: a console block begins with `$ `")
        is_continued = not found[-1][1] and found[-1][0].endswith("\\")
    return found


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [(len(found[1]), found[2]) for found in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE)]


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    text = page.read_text("utf-8")
    _, found, below = text.partition(f"# {heading}\n")
    if not found:
        raise ValueError(f"{page}: no heading {heading!r}")
    rows: list[list[str]] = []
    for line in below.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([cell.strip() for cell in cells])
        elif rows:
            break
    return rows[2:]
