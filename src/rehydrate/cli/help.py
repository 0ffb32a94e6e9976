"""What `--help` shows, for people: a flag takes no value, and the name of an argument says what it is.

Also what an argument that begins with a dash is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help shows no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # By its name, because Typer uses the Click that is installed, or one of its own.
            if type(error).__name__ == "NoSuchOption" and self._takes_arguments():
                vars(error)["message"] += _behind_dashes(vars(error)["option_name"], given)
            raise

    def _takes_arguments(self) -> bool:
        return any(param.param_type_name == "argument" for param in self.params)


class Group(TyperGroup):
    """The program, whose help shows no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


def _behind_dashes(option: str, given: Iterable[str]) -> str:
    """What to do where it is an argument, such as the id -1."""
    if option.startswith("--"):
        return ""
    meant = next((one for one in given if one.startswith(option)), option)
    return f". If it is no option, put it at the end, behind two dashes: -- {meant}"


def _without_types(params: list[Any]) -> list[Any]:
    """Of an option that names its value, that name is shown; of the rest nothing."""
    for param in params:
        if param.metavar is None or param.param_type_name == "argument":
            vars(param)["display_type_rich"] = _nothing
    return params


def _nothing(ctx: object) -> None:  # noqa: ARG001
    return None
