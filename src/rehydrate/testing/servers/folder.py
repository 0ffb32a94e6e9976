"""The temporary folder in which the servers of a test run live: their data, their logs, and programs if need be."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path

from rehydrate.testing.servers.account import Account
from rehydrate.testing.servers.found import Programs, ServerNotFoundError
from rehydrate.testing.servers.process import Watch


class ServerFolder:
    """Made at once; belongs to the account that the servers run as, and nobody else can look into it."""

    def __init__(self) -> None:
        self.account = Account()
        place = _reachable(self.account)
        self.watch = Watch()
        self.path = Path(tempfile.mkdtemp(prefix="rehydrate-servers-", dir=place))
        self.account.owns(self.path)
        self.watch.say(f"folder {self.path}")
        self._numbers = count(1)
        self._runnable: dict[Path, Programs] = {}

    def new(self, name: str) -> Path:
        """A new, empty folder."""
        path = self._name(name)
        path.mkdir(mode=0o700)
        self.account.owns(path)
        return path

    def _name(self, name: str) -> Path:
        return self.path / f"{next(self._numbers)}-{name}"

    def write(self, path: Path, text: str) -> Path:
        """Write a file that only the account can read."""
        path.touch(0o600, exist_ok=False)
        path.write_text(text, "utf-8")
        self.account.owns(path)
        return path

    def copy(self, source: Path, name: str) -> Path:
        """A copy of a folder of ours."""
        target = self.new(name)
        self.account.run("cp", "-Rp", f"{source}/.", target, cwd=self.path)
        return target

    def runnable(self, programs: Programs) -> Programs:
        """These programs where the account can run them: copied, if they lie in a folder that it cannot enter."""
        if programs.folder not in self._runnable:
            reachable = self.account.can_use(programs.some())
            self._runnable[programs.folder] = (
                programs if reachable else programs.copied_to(self._name("programs"))
            )
        return self._runnable[programs.folder]

    def remove(self, *paths: Path) -> None:
        """Remove folders of ours that are not needed any more."""
        for path in paths:
            shutil.rmtree(path)

    def close(self) -> None:
        """Remove it. The servers have been stopped before."""
        shutil.rmtree(self.path)
        self.watch.close()


def _reachable(account: Account) -> Path:
    for folder in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        if account.can_use(folder):
            return folder
    raise ServerNotFoundError("there is no temporary folder that an unprivileged user can reach: set TMPDIR")
