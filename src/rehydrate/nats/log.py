"""What a server writes to its log: read while it grows, and said so that a person knows what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"^\[\d+\] \S+ \S+ \[(?P<level>[A-Z]{3})\] (?P<text>.*)$")
_PORT_TAKEN: Final = re.compile(r"listen tcp (?P<place>\S+): bind: address already in use")
_NO_SUCH_PLACE: Final = re.compile(r"listen tcp (?P<place>\S+): bind: cannot assign requested address")
_OTHER_CLUSTER: Final = re.compile(r'cluster name "(?P<its>[^"]*)" does not match "(?P<ours>[^"]*)"')
_SAME_NAME: Final = re.compile(r'Remote server has a duplicate name: "(?P<name>[^"]*)"')
_MOST: Final = 1 << 20
"""Bytes that are read of a log at a time: what is older has become too much to tell."""
_LAST: Final = 5

_NOT_WORTH_SAYING: Final = (
    "Error trying to connect to route",  # whoever waits for the peers says so
    "Waiting for routing to be established",
    "Waiting for routing to be available",
    "cluster name from remote server conflicts",
    "Parse Error",  # follows a peer that was refused
    "Route Error 'Rejecting connection",
    "JetStream cluster no metadata leader",
    "Healthcheck failed",  # our own question
    "connection reset by peer",  # who connected has gone, and that shows elsewhere
    "broken pipe",
    "JetStream has not established contact with a meta leader",
    # After a kill the server reads its files again, where it would have read a summary of them.
    "TTL state is outdated; attempting to recover",
    "Stream state outdated, last block has additional entries, will rebuild",
    "Recovering stream state from index errored: prior state file",
    "Metalayer blocking snapshot",  # how long that took
)


class ServerLog:
    """The log of a server, from its end on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def more(self) -> list[str]:
        """The lines that are new. A log that was replaced by an empty one is read from its beginning."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._read:
                    self._read, self._rest = 0, b""
                if size - self._read > _MOST:
                    self._read, self._rest = size - _MOST, b""
                file.seek(self._read)
                text = self._rest + file.read(_MOST)
                self._read = file.tell()
        except FileNotFoundError:
            return []
        *lines, self._rest = text.split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


def is_passing(line: str) -> bool:
    """Whether the server itself thinks that a line of its log may be of no consequence."""
    found = _LINE.match(line)
    return found is not None and found["level"] != "ERR"


def has_namesake(line: str) -> bool:
    """Whether it tells of another server of the same name in the cluster."""
    return _SAME_NAME.search(line) is not None


def complaint(line: str) -> str | None:
    """What is wrong, in a sentence for whoever runs the server; None for a line that is no complaint."""
    found = _LINE.match(line)
    if not found or found["level"] not in {"WRN", "ERR"}:
        return None
    text = found["text"]
    if any(other in text for other in _NOT_WORTH_SAYING):
        return None
    if "Route Error 'Authorization Violation'" in text or 'authentication error - User "node"' in text:
        return "a peer was refused for its token, or refused us: give all nodes the same token"
    if other := _OTHER_CLUSTER.search(text):
        return (
            f"a peer belongs to the cluster {other['its']!r}, and this node to {other['ours']!r}: "
            "give all nodes the same name of the cluster, or this one other peers"
        )
    if same := _SAME_NAME.search(text):
        return f"there is another node named {same['name']!r}: give each node a name of its own"
    if "no space left on device" in text:
        return "its disk is full, and from then on the server stores nothing: make room, then end this node and start it again"
    if "TLS" in text and ("handshake" in text or "certificate" in text):
        return (
            f"TLS failed ({text}): certificates need the address of their node, the use for servers and for clients, "
            "and an authority that all nodes trust"
        )
    return _place(text) or f"nats-server says: {text}"


def reason_of_end(lines: list[str]) -> str:
    """Why a server ended, from the last that it wrote."""
    for line in reversed(lines):
        found = _LINE.match(line)
        if found and found["level"] == "FTL":
            return _place(found["text"]) or found["text"]
    return " ".join(line.strip() for line in lines[-_LAST:] if line.strip()) or "it says nothing of why"


def _place(text: str) -> str | None:
    if taken := _PORT_TAKEN.search(text):
        return f"another program listens on {taken['place']}: end that, or choose another port"
    if nowhere := _NO_SUCH_PLACE.search(text):
        return f"{nowhere['place']} is no address of this machine: listen on one that it has"
    return None
