"""An actor that was overtaken reads what others appended, until it has reached the version that a conflict named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehydrate.errors import StoreUnavailableError
from rehydrate.runtime.phases import RECOVERING
from rehydrate.runtime.rehydration import WentBackError, catch_up

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor


def pause_then_catch_up(actor: AggregateActor[Any, Any, Any], actual: int, tries: int) -> None:
    """Read on to version `actual`, after a pause that grows with the tries; then the actor goes on."""
    manager = actor.blueprint.manager
    if tries == 0:
        manager.read_for(actor, _catch_up(actor, actual, tries))
    else:
        manager.clock.call_later(manager.pause(tries) / 4, lambda: _after_pause(actor, actual, tries))


def _after_pause(actor: AggregateActor[Any, Any, Any], actual: int, tries: int) -> None:
    if actor.phase == RECOVERING:
        actor.blueprint.manager.read_for(actor, _catch_up(actor, actual, tries))


async def _catch_up(actor: AggregateActor[Any, Any, Any], actual: int, tries: int) -> None:
    try:
        caught_up = await catch_up(actor.blueprint, actor.stream, actor.state, actor.version, actor.last_id)
    except WentBackError as error:
        actor.start_over(str(error))
        return
    except StoreUnavailableError as error:
        _try_again(actor, actual, tries, error)
        return
    if actor.phase != RECOVERING:
        return
    if caught_up.events:
        actor.overtaken(caught_up.state, caught_up.events)
    if actor.version < actual:
        await _look_where_it_ends(actor, actual, tries)
    else:
        actor.advance()


async def _look_where_it_ends(actor: AggregateActor[Any, Any, Any], actual: int, tries: int) -> None:
    """The stream does not show the version that a conflict named: not yet, or not any more."""
    try:
        (end,) = await actor.blueprint.manager.store.ends([actor.stream])
    except StoreUnavailableError as error:
        _try_again(actor, actual, tries, error)
        return
    if actor.phase != RECOVERING:
        return
    if end.version < actual:
        actor.start_over(f"its version is {end.version} and was {actual}")
    else:
        lagging = StoreUnavailableError(f"{actor.stream} does not show version {actual} yet")
        _try_again(actor, actual, tries, lagging)


def _try_again(
    actor: AggregateActor[Any, Any, Any], actual: int, tries: int, error: StoreUnavailableError
) -> None:
    """A catch-up that did not get there is tried again while somebody waits for it."""
    if actor.phase != RECOVERING:
        return
    if actor.mailbox:
        pause_then_catch_up(actor, actual, tries + 1)
    else:
        actor.recovery_failed(error)
