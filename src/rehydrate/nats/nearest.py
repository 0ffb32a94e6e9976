"""In which order servers are tried: those of this machine first, then the others in any order."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit


def nearest_first(servers: Iterable[str]) -> list[str]:
    """One URL for all machines, and each machine uses its own server: who loses a machine loses its callers only."""
    shuffled = list(servers)
    # Clients without a server of their own are not to be all with the same one.
    random.shuffle(shuffled)
    return sorted(shuffled, key=lambda server: not is_here(urlsplit(server).hostname or ""))


def is_here(host: str) -> bool:
    """Whether that is an address or the name of this machine. Nothing is looked up: that could take its time."""
    if host in {"localhost", socket.gethostname()}:
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))
        except OSError:
            return False
        return True
    return False
