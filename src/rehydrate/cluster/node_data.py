"""The folder in which a node keeps its data, and what it was begun as.

A server that stood alone and joins a cluster loses what it stored: the others know nothing of it, and it deletes it. So
the first start writes down who the peers are, and a later start with others is refused.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from rehydrate.cluster.node_plan import NodePlan
from rehydrate.errors import ConfigurationError
from rehydrate.nats.configuration import written
from rehydrate.nats.server import ServerFiles

MARKER: Final = "node.json"
_OF_NOBODY: Final = {"lost+found", ".DS_Store"}


class Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder was begun as."""

    format: int = 1
    name: str
    cluster: str
    peers: list[str]


class NodeData:
    """The folder of one node: its marker, its configuration, its log, and the data of its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.files = ServerFiles(
            configuration=self.folder / "nats-server.conf",
            log=self.folder / "nats-server.log",
            output=self.folder / "nats-server.output",
            data=self.folder / "jetstream",
            lock=self.folder / "lock",
            ports=self.folder / "ports",
        )

    def claim(self, plan: NodePlan) -> None:
        """Begin the folder for this node, or find that it was begun for it; else it is a `ConfigurationError`."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._found(plan)
            self.files.ports.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{self.folder} cannot be the folder of a node ({error.strerror}): give one that you may write to"
            ) from error
        _compare(found, plan, self.folder)

    def configure(self, plan: NodePlan) -> None:
        """Write what the server is told, to a file that only we can read."""
        path = self.files.configuration
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(written(plan.configuration(self.folder, self.files).settings()))
        unfinished.replace(path)

    def _found(self, plan: NodePlan) -> Marker:
        path = self.folder / MARKER
        if not path.exists():
            self._begin(plan, path)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Marker)
        except msgspec.MsgspecError as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}): it was written by another version, or damaged"
            ) from error

    def _begin(self, plan: NodePlan, path: Path) -> None:
        strangers = {entry.name for entry in self.folder.iterdir()} - _OF_NOBODY
        if not path.exists() and any(not name.startswith(MARKER) for name in strangers):
            raise ConfigurationError(
                f"{self.folder} is not empty, and no node has begun it: give the node a folder of its own"
            )
        marker = Marker(name=plan.name, cluster=plan.cluster, peers=sorted(plan.peers))
        mine = self.folder / f"{MARKER}.{secrets.token_hex(8)}"
        with mine.open("wb") as file:
            file.write(msgspec.json.encode(marker) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # Whoever is first has begun it, whole.
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _compare(found: Marker, plan: NodePlan, folder: Path) -> None:
    peers = sorted(plan.peers)
    if len(found.peers) != len(peers):
        raise ConfigurationError(
            f"{folder} was begun by a node of {len(found.peers)}, and this one is of {len(peers)}: their number stays; "
            "begin the new nodes in empty folders, and move the data there with `rehydrate copy`"
        )
    for what, was, now in (
        ("name", found.name, plan.name),
        ("cluster", found.cluster, plan.cluster),
        ("peers", ", ".join(found.peers), ", ".join(peers)),
    ):
        if was != now:
            raise ConfigurationError(
                f"{folder} was begun by a node with the {what} {was}, and not {now}: these stay what they are"
            )
