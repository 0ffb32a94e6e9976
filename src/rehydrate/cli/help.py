"""What `--help` shows, for people: a flag takes no value, and the name of an argument says what it is."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help shows no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """The program, whose help shows no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    """Of an option that names its value, that name is shown; of the rest nothing."""
    for param in params:
        if param.metavar is None or param.param_type_name == "argument":
            vars(param)["display_type_rich"] = _nothing
    return params


def _nothing(ctx: object) -> None:  # noqa: ARG001
    return None
