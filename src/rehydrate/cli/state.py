"""`rehydrate state`: what an aggregate has come to."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from rehydrate.app import App
from rehydrate.cli.endings import say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.json import encode_any
from rehydrate.cli.table import visible, write_json
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.process import ProcessManager
from rehydrate.errors import ConfigurationError, UnknownAggregateError
from rehydrate.runtime.runtime import Runtime

_LOOKS: Final = 5


class StateLine(msgspec.Struct, frozen=True):
    """A state as a line of JSON."""

    aggregate: str
    id: str
    version: int
    state: msgspec.Raw


async def show_state(app: App, url: str, name: str, id: str, at: int | None, *, as_table: bool) -> int:
    """Write the state of an aggregate. Returns the exit code."""
    aggregate = app.aggregates.get(name) or app.processes.get(name)
    if aggregate is None:
        raise UnknownAggregateError(name, (*app.aggregates, *app.processes))
    async with existing_store(url) as store, app.open(store, consumers=False) as runtime:
        version, state = await _state(runtime, aggregate, id, at)
    if version == 0 and at is None:
        say(f"{name} {id!r} has no events: this is the state it begins with")
    data = _as_json(aggregate, state)
    if as_table:
        console = Console(file=sys.stdout, highlight=False)
        console.print(Text.assemble((visible(f"{name} {id}"), "bold"), f" at version {version:,}"))
        console.print_json(data.decode())
    else:
        write_json([msgspec.json.encode(StateLine(name, id, version, msgspec.Raw(data)))])
    return 0


async def _state(
    runtime: Runtime, aggregate: Aggregate[Any, Any, Any] | ProcessManager[Any, Any], id: str, at: int | None
) -> tuple[int, Any]:
    """A state and its version, which belong together also while others write."""
    if at is not None:
        try:
            return at, await runtime.state(aggregate, id, at=at)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    stream = aggregate.stream(id)
    (version,) = await runtime.store.versions([stream])
    for _ in range(_LOOKS):
        state = await runtime.state(aggregate, id)
        before, (version,) = version, await runtime.store.versions([stream])
        if version == before:
            return version, state
    return version, await runtime.state(aggregate, id, at=version)


def _as_json(aggregate: Aggregate[Any, Any, Any] | ProcessManager[Any, Any], state: Any) -> bytes:
    codec = AggregateCodecs.of(aggregate).state if isinstance(aggregate, Aggregate) else None
    try:
        return encode_any(state) if codec is None else codec.encode(state)
    except Exception:  # noqa: BLE001 - a state that cannot be stored can still be shown
        return encode_any(state)
