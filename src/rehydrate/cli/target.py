"""MODULE:APP: from what was typed to the App."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from rehydrate.app import App
from rehydrate.errors import ConfigurationError


class BrokenModuleError(ConfigurationError):
    """The user's module raised while it was imported (`__cause__` has it, to be shown whole)."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"module {module!r} could not be imported: the error above is in it, or in what it imports"
        )
        self.module = module


def looks_like_target(target: str) -> bool:
    """Whether this has the form MODULE:APP."""
    module, colon, attribute = target.partition(":")
    return bool(module and colon and attribute)


def load_app(target: str) -> App:
    """Import the module, from the current directory if it is there, and take the App out of it.

    Raises `ConfigurationError` with one sentence where there is no such module, nothing of that name in it, or
    something else; and `BrokenModuleError` where the module itself fails.
    """
    name, _, attribute = target.partition(":")
    found: object = _import(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(
                f"module {name!r} has no {attribute!r}{_apps_in(sys.modules[name], name)}"
            )
        found = getattr(found, part)
    if not isinstance(found, App):
        raise ConfigurationError(
            f"{target} is not an App but of class {type(found).__name__!r}{_apps_in(sys.modules[name], name)}"
        )
    return found


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if "/" in name or name.startswith("."):
        raise _no_module(name, name, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise BrokenModuleError(name) from error
        raise _no_module(error.name, name, here) from None
    except (Exception, SystemExit) as error:
        # A script that ends itself when it is imported would be a command that did nothing, and all is well.
        raise BrokenModuleError(name) from error


def _no_module(missing: str, name: str, here: str) -> ConfigurationError:
    hint = ""
    if "/" in name or name.endswith(".py"):
        hint = f"; name the module, not its file: {name.removesuffix('.py').strip('./').replace('/', '.')}"
    return ConfigurationError(f"there is no module {missing!r} in {here} or on the Python path{hint}")


def _apps_in(module: ModuleType, name: str) -> str:
    apps = [f"{name}:{attribute}" for attribute, value in vars(module).items() if isinstance(value, App)]
    return f"; did you mean {' or '.join(apps)}?" if apps else ""
