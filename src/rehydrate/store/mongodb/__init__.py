"""The MongoDB store: `mongodb://host/bank`."""

from rehydrate.store.mongodb.store import MongoStore, open_mongodb

__all__ = ["MongoStore", "open_mongodb"]
