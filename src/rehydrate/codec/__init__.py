"""How events become bytes and come back."""

from rehydrate.codec.aggregate import AggregateCodecs, check_aggregates
from rehydrate.codec.difference import difference
from rehydrate.codec.json import JsonCodec, JsonValueCodec
from rehydrate.codec.upcast import Upcaster

__all__ = ["AggregateCodecs", "JsonCodec", "JsonValueCodec", "Upcaster", "check_aggregates", "difference"]
