"""What a server must be, as far as it says so itself when one connects to it."""

from __future__ import annotations

from rehydrate.errors import ConfigurationError
from rehydrate.nats.connection import Connection


def check_server(connection: Connection, *, oldest: tuple[int, int], older: str) -> None:
    """Raise `ConfigurationError` for a server without JetStream, and for one that is too old: `older` says what it cannot do."""
    info, shown = connection.server_info, connection.address.shown
    version = str(info.get("version", ""))
    if _numbers(version) < oldest:
        raise ConfigurationError(
            f"{shown} is a nats-server {version}, which {older}: upgrade it to {oldest[0]}.{oldest[1]} or newer"
        )
    if not info.get("jetstream"):
        raise ConfigurationError(
            f"{shown} has no JetStream: put `jetstream {{ store_dir: ..., sync_interval: always }}` into the "
            "configuration of its servers"
        )


def _numbers(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdigit())
