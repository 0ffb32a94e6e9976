"""Where a server listens: a host and a port, as text."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple, Self

from rehydrate.errors import ConfigurationError

HIGHEST_PORT = 65_535


class Endpoint(NamedTuple):
    """`host:port`; an IPv6 address stands in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`; what is none is a `ConfigurationError`."""
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigurationError(f"{text!r} is no HOST:PORT: write an IPv6 address as [::1]:4222")
        is_number = port.isascii() and port.isdecimal() and 0 < int(port) <= HIGHEST_PORT
        if not (colon and host and is_number and host.isprintable() and not set(host) & set(" /@,=")):
            raise ConfigurationError(f"{text!r} is no HOST:PORT, as 127.0.0.1:4222 is")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name that is not `localhost` may lead anywhere."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_any(self) -> bool:
        """Whether it stands for all addresses of the machine, and so is none that others could connect to."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False
