"""Small repositories with awkward histories, made with `git fast-import`: any path, any mode, any parents."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Content = tuple[str, bytes] | None
"""Mode and content of a path; None removes it."""

FILE, PROGRAM, LINK, SUBMODULE = "100644", "100755", "120000", "160000"


def file(text: str) -> Content:
    return FILE, text.encode()


class History:
    """A bare repository that grows commit by commit."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "repository.git"
        self._script: list[bytes] = []
        self._marks = 0
        self._home = folder

    def commit(self, changes: Mapping[Any, Content], *, parents: Sequence[int] | None = None) -> int:
        """A commit after the last one, or after others: its first parent comes first. Returns its number.

        Paths are str or bytes.
        """
        last = self._marks
        self._marks += 1
        out = self._script
        branch = b"refs/heads/main" if parents is None else b"refs/heads/side-%d" % self._marks
        out.append(b"commit %s\nmark :%d\n" % (branch, self._marks))
        out.append(
            b"committer A <a@example.com> %d +0000\ndata 1\nm\n" % (1_700_000_000 + 90_000 * self._marks)
        )
        for number, parent in enumerate([last] if parents is None else parents):
            if parent:
                out.append((b"merge :%d\n" if number else b"from :%d\n") % parent)
        for path, content in changes.items():
            out.append(_change(path if isinstance(path, bytes) else path.encode(), content))
        return self._marks

    def write(self) -> Path:
        """Make the repository, with the last commit as its head."""
        self._script.append(b"reset refs/heads/main\nfrom :%d\n" % self._marks if self._marks else b"")
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.path), cwd=self._home)
        self.git("fast-import", "--quiet", "--force", given=b"".join(self._script))
        return self.path

    def git(self, *arguments: str, given: bytes = b"", cwd: Path | None = None) -> bytes:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        ran = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=cwd or self.path, input=given, capture_output=True, check=False, env=environment,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")
        return ran.stdout


def _change(path: bytes, content: Content) -> bytes:
    quoted = b'"' + b"".join(b"\\%03o" % byte for byte in path) + b'"'
    if content is None:
        return b"D " + quoted + b"\n"
    mode, data = content
    if mode == SUBMODULE:
        return b"M 160000 %s %s\n" % (data, quoted)
    return b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted, len(data), data)
