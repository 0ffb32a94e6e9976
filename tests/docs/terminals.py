"""The terminals of a page: each runs a program in the background, whose output the page shows bit by bit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster.places import free_place
from tests.docs.pages import Block, commands, shown_first

LIMIT: Final = 90.0
"""Seconds until what a page shows has to be there, on a busy machine."""
_LOOK: Final = 0.02
_PLACE: Final = re.compile(r"127\.0\.0\.1:42\d\d\b")
_INTERRUPT: Final = "^C\n"
_KILLED: Final = "Killed\n"


class Terminal:
    """One terminal: its program, and how much of its output the page has shown."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._seen = 0
        self._program: subprocess.Popen[bytes] | None = None

    def start(self, command: str) -> None:
        with self._output.open("ab") as output:
            self._seen = len(self._output.read_text("utf-8"))
            self._program = subprocess.Popen(
                f"exec {command}", shell=True, stdout=output, stderr=output, start_new_session=True
            )

    def interrupt(self) -> None:
        """Ctrl-C: all processes of the terminal get the signal."""
        assert self._program is not None
        os.killpg(self._program.pid, signal.SIGINT)

    def wait(self) -> int:
        assert self._program is not None
        return self._program.wait(LIMIT)

    def shows(self, expected: str) -> str | None:
        """Wait for that; what was printed in its place if it does not come."""
        until = time.monotonic() + LIMIT
        while True:
            has_ended = self._program is None or self._program.poll() is not None
            unread = self._output.read_text("utf-8")[self._seen :]
            length = shown_first(expected, unread)
            if length is not None:
                self._seen += length
                return None
            if has_ended or time.monotonic() > until:
                return unread
            time.sleep(_LOOK)

    def close(self) -> None:
        if self._program is not None and self._program.poll() is None:
            os.killpg(self._program.pid, signal.SIGKILL)
            self._program.wait(LIMIT)


class Terminals:
    """All terminals of a page, and where the addresses that it names really are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._terminals: dict[str, Terminal] = {}
        self._places: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def with_free_ports(self, text: str) -> str:
        """The text with free ports for those that a reader would have free."""
        return _PLACE.sub(lambda found: self._places.setdefault(found[0], free_place()), text)

    def follow(self, block: Block) -> str | None:
        """Do what a block of a terminal shows; what else was printed if it does not come to that."""
        terminal = self._terminals.setdefault(
            block.terminal, Terminal(self._folder / f"{block.terminal}.output")
        )
        if block.language == "console":
            ((command, expected),) = commands(block)
            terminal.start(command)
            return terminal.shows(expected)
        if block.code == _KILLED:
            code = terminal.wait()
            return None if code in {-signal.SIGKILL, 128 + signal.SIGKILL} else f"ended with {code}"
        if not block.code.startswith(_INTERRUPT):
            return terminal.shows(block.code)
        terminal.interrupt()
        code = terminal.wait()
        return terminal.shows(block.code.removeprefix(_INTERRUPT)) or (f"ended with {code}" if code else None)
