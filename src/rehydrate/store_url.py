"""The URL of a store, taken apart, for the backend that it names.

    async def open_sqlite(url: StoreUrl, clock: Clock) -> Store:
        busy_timeout = url.seconds("busy_timeout", default=5.0)
        synchronous = url.choice("synchronous", ("full", "normal"), default="full")
        url.refuse_the_rest()

Whatever is wrong is one sentence in a `ConfigurationError`, and no sentence holds credentials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from rehydrate.errors import ConfigurationError

T = TypeVar("T")

_EXAMPLE: Final = "a store's URL looks like sqlite:///bank.db or memory://"


class StoreUrl:
    """`scheme://user:password@host/path?name=value`; each name is a parameter that the backend takes, once."""

    def __init__(self, url: str) -> None:
        _check_is_text(url)
        self.scheme, separator, rest = url.partition("://")
        if not separator or not self.scheme:
            raise ConfigurationError(f"this is no URL of a store, for it has no '://': {_EXAMPLE}")
        if "#" in rest:
            raise ConfigurationError(f"the URL {self.scheme}://... holds a '#': write it as %23")
        place, _, query = rest.partition("?")
        authority, slash, path = place.partition("/")
        if authority and "@" in path + query:
            # It may be the end of a password, the beginning of which would be taken for the host, and shown.
            raise ConfigurationError(
                f"the URL {self.scheme}://... holds an '@' behind its host: in a password write '/' as %2F and '?' as "
                "%3F, elsewhere write '@' as %40"
            )
        self._check_characters(authority, path)
        credentials, _, self.host = authority.rpartition("@")
        user, _, password = credentials.partition(":")
        self.user: str | None = unquote(user) or None
        self.password: str | None = unquote(password) or None
        self.path: str = unquote(path)
        """What follows the slash after the host, without it."""
        self.shown: str = f"{self.scheme}://{self.host}{slash}{path}"
        """The URL without credentials, and without parameters but those that say which store it is."""
        self._given = self._parameters(query)
        self._known: list[str] = []

    def _check_characters(self, authority: str, path: str) -> None:
        try:
            authority.encode()
        except UnicodeEncodeError:
            # Without its cause, which holds credentials. A path may be what the file system takes, and is no text.
            raise ConfigurationError(
                f"the URL {self.scheme}://... holds a lone surrogate before its path, which is not a character"
            ) from None
        if "\0" in unquote(authority + path):
            raise ConfigurationError(f"the URL {self.scheme}://... holds U+0000, which no name can have")

    def _parameters(self, query: str) -> dict[str, str]:
        given: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in given:
                raise ConfigurationError(f"{self.shown}: the parameter {name!r} is given twice")
            given[name] = value
        return given

    def show(self, *names: str) -> None:
        """Have these parameters shown, where they are given: without them it would be another store."""
        shown = urlencode({name: self._given[name] for name in names if name in self._given}, safe="/:,")
        if shown:
            self.shown += f"?{shown}"

    def text(self, name: str, *, default: str) -> str:
        """Take a parameter as it stands."""
        self._known.append(name)
        return self._given.pop(name, default)

    def choice(self, name: str, choices: Sequence[str], *, default: str) -> str:
        """Take a parameter that is one of a few words."""
        value = self.text(name, default=default)
        if value not in choices:
            raise self._wrong(name, value, f"one of {', '.join(filter(None, choices))}")
        return value

    def number(self, name: str, *, default: int, at_least: int = 0) -> int:
        """Take a parameter that is a whole number."""
        value = self.text(name, default=str(default))
        if not (value.isascii() and value.isdigit() and int(value) >= at_least):
            raise self._wrong(name, value, f"a whole number of at least {at_least}")
        return int(value)

    def seconds(self, name: str, *, default: float, more_than: float = 0.0) -> float:
        """Take a parameter that is a time in seconds."""
        value = self.text(name, default=str(default))
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not (more_than < seconds < math.inf):
            raise self._wrong(name, value, f"a number of seconds above {more_than:g}")
        return seconds

    def refuse_credentials(self) -> None:
        """Raise `ConfigurationError` if there is a user or a password, where nobody asks for them."""
        if self.user or self.password:
            raise ConfigurationError(f"{self.shown}: this store takes no user and no password")

    def refuse_the_rest(self) -> None:
        """Raise `ConfigurationError` if there is a parameter that nobody took."""
        for name in self._given:
            known = ", ".join(sorted(self._known)) or "none"
            raise ConfigurationError(f"{self.shown}: there is no parameter {name!r} (there is: {known})")

    def _wrong(self, name: str, value: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"{self.shown}: {name}={value!r} must be {wanted}")


def _check_is_text(url: object) -> None:
    if not isinstance(url, str):
        # Not its text, which may hold a password.
        raise ConfigurationError(f"a value of type {type(url).__name__} is no URL of a store: {_EXAMPLE}")
