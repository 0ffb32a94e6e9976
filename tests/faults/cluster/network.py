"""Where the hosts of a fault test are: in network namespaces of their own, or all on this machine's loopback.

In namespaces each host has an address of its own and a cable to a switch, which can be pulled out, and which can lose all
that one host sends to another. Linux makes them for root only, and they vanish with the processes that hold them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from rehydrate.testing.servers.process import free_port

T = TypeVar("T")

PORT: Final = 4222
_CLONE_NEWNET: Final = 0x40000000
_NOWHERE: Final = "02:00:00:00:00:99"
"""A hardware address that nobody has: what is sent to it is lost, and the sender does not learn of it."""


class Network(Protocol):
    """So many hosts that can reach each other."""

    has_cables: bool
    """Whether hosts can be cut off from each other."""

    def endpoint(self, host: int) -> str:
        """Where the node of a host listens; its routes listen 2,000 above."""
        ...

    def inside(self, host: int) -> Sequence[str]:
        """What runs a command on that host: what stands before it."""
        ...

    def look(self, host: int, question: Callable[[], T]) -> T:
        """Ask something that only that host can reach. Not on the event loop's thread."""
        ...

    def cut_off(self, host: int) -> None:
        """Pull its cable out: it reaches nobody, and nobody reaches it."""
        ...

    def reconnect(self, host: int) -> None: ...

    def lose(self, sender: int, receiver: int) -> None:
        """From now on, all that one host sends to another is lost; what the other sends arrives."""
        ...

    def lose_no_more(self, sender: int, receiver: int) -> None: ...

    def close(self) -> None: ...


class Loopback:
    """All hosts are this machine, at ports of their own."""

    has_cables = False

    def __init__(self, hosts: int) -> None:
        self._ports = [_port_pair() for _ in range(hosts)]

    def endpoint(self, host: int) -> str:
        return f"127.0.0.1:{self._ports[host]}"

    def inside(self, host: int) -> Sequence[str]:
        return ()

    def look(self, host: int, question: Callable[[], T]) -> T:
        return question()

    def cut_off(self, host: int) -> None:
        raise NotImplementedError

    reconnect = cut_off

    def lose(self, sender: int, receiver: int) -> None:
        raise NotImplementedError

    lose_no_more = lose

    def close(self) -> None:
        """There is nothing to give back."""


class Namespaces:
    """Each host in a network namespace of its own, and a switch in another."""

    has_cables = True

    def __init__(self, hosts: int) -> None:
        self._switch = _Namespace()
        self._hosts = [_Namespace() for _ in range(hosts)]
        self._switch.ip("link add switch type bridge")
        self._switch.ip("link set switch up")
        for number, host in enumerate(self._hosts):
            self._switch.ip(f"link add cable{number} type veth peer name eth0 netns {host.pid}")
            self._switch.ip(f"link set cable{number} master switch up")
            host.ip("link set lo up")
            host.ip(f"address add {_address(number)}/24 dev eth0")
            host.ip("link set eth0 up")

    def endpoint(self, host: int) -> str:
        return f"{_address(host)}:{PORT}"

    def inside(self, host: int) -> Sequence[str]:
        return self._hosts[host].inside

    def look(self, host: int, question: Callable[[], T]) -> T:
        with _Entered(self._hosts[host]):
            return question()

    def cut_off(self, host: int) -> None:
        self._switch.ip(f"link set cable{host} down")

    def reconnect(self, host: int) -> None:
        self._switch.ip(f"link set cable{host} up")

    def lose(self, sender: int, receiver: int) -> None:
        self._hosts[sender].ip(
            f"neighbour replace {_address(receiver)} lladdr {_NOWHERE} dev eth0 nud permanent"
        )

    def lose_no_more(self, sender: int, receiver: int) -> None:
        self._hosts[sender].ip(f"neighbour del {_address(receiver)} dev eth0")

    def close(self) -> None:
        for namespace in (*self._hosts, self._switch):
            namespace.close()


class _Namespace:
    """Held by a process that does nothing, and ends with us."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo held; read line"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            self._holder.wait()
            raise PermissionError("this system lets us make no network namespace")

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def inside(self) -> Sequence[str]:
        return ("nsenter", f"--net={self.path}", "--")

    def ip(self, command: str) -> None:
        subprocess.run([*self.inside, "ip", *command.split()], check=True, capture_output=True)

    def close(self) -> None:
        self._holder.communicate()


class _Entered:
    """This thread, and nobody else, is in that namespace meanwhile."""

    def __init__(self, namespace: _Namespace) -> None:
        self._namespace = namespace
        self._ours = -1

    def __enter__(self) -> None:
        self._ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        theirs = os.open(self._namespace.path, os.O_RDONLY)
        try:
            _set_namespace(theirs)
        finally:
            os.close(theirs)

    def __exit__(self, *_: object) -> None:
        try:
            _set_namespace(self._ours)
        finally:
            os.close(self._ours)


def _set_namespace(file: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(file, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a thread cannot go into that network namespace")


def _address(host: int) -> str:
    return f"10.23.0.{host + 1}"


def _port_pair() -> int:
    """A port that is free, as the one 2,000 above it is."""
    while True:
        port = free_port()
        if port + 2_000 < 32_000:
            return port


@functools.cache
def why_no_namespaces() -> str:
    """Why hosts cannot be cut off from each other here; empty if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    try:
        network = Namespaces(1)
        network.close()
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces can be made here (it takes root, unshare, nsenter and ip): {error}"
    return ""
