"""WHO owns a stream where there are several nodes."""

from rehydrate.cluster.node import Node, NodeHealth
from rehydrate.nats.configuration import TlsFiles
from rehydrate.nats.server import NodeFailedError

__all__ = ["Node", "NodeFailedError", "NodeHealth", "TlsFiles"]
