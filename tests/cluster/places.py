"""Where nodes of a test listen: on ports that are free, as are those above them at which they talk to each other."""

import socket

from rehydrate.cluster.node_plan import ROUTE_PORTS
from rehydrate.testing.servers.process import free_port


def free_place() -> str:
    """`host:port` for a node."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port + ROUTE_PORTS))
            except OSError:
                continue
            return f"127.0.0.1:{port}"


def three_places() -> dict[str, str]:
    """Three peers by name."""
    return {name: free_place() for name in "abc"}
