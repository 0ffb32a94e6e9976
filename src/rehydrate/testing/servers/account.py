"""Who runs the servers: we ourselves, or, where we are root, a user that exists and may do nothing.

PostgreSQL refuses to run as root, and rightly so. No user is made, and no permission outside of our folder is changed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rehydrate.testing.servers.found import ServerNotFoundError

_USERS = ("nobody", "daemon")
"""Users of every Unix that own nothing."""
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
"""What a server sees of our environment: nothing that could configure it, such as `PGPORT` or `LC_ALL`."""


class RunAs(TypedDict, total=False):
    """What `subprocess` is told."""

    user: int
    group: int
    extra_groups: Sequence[int]


class Account:
    """The user that owns the folder of the servers, and whom they run as."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.gid = os.getegid()
        self.run_as = RunAs()
        if self.uid == 0:
            self.uid, self.gid = _unprivileged()
            self.run_as = RunAs(user=self.uid, group=self.gid, extra_groups=())

    def owns(self, path: Path) -> None:
        """Give it a file or folder of ours."""
        if self.run_as:
            os.chown(path, self.uid, self.gid)

    def can_use(self, path: Path) -> bool:
        """Whether it may enter that folder, or run that program."""
        return self._run("test", "-x", str(path), cwd="/").returncode == 0

    def run(self, *command: str | Path, cwd: Path) -> None:
        """Run a program to its end; a failure is a `RuntimeError` with what it said."""
        done = self._run(*command, cwd=str(cwd))
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")

    def _run(self, *command: str | Path, cwd: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            check=False,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **self.run_as,
        )


def environment() -> dict[str, str]:
    """The environment of a server."""
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), os.defpath)))
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"PATH": path, "LC_ALL": "C", "TZ": "UTC", **passed_on}


def _unprivileged() -> tuple[int, int]:
    import pwd

    for name in _USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    raise ServerNotFoundError(
        f"servers are not run as root, and there is none of the users {', '.join(_USERS)} on this machine"
    )
