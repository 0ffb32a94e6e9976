"""The store in NATS JetStream: `nats://host/bank`."""

from rehydrate.store.nats.store import NatsStore, open_nats

__all__ = ["NatsStore", "open_nats"]
