"""The URL of a MongoDB store: which of the driver's options it may carry, and what it says to us."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.store_url import StoreUrl

PASSED_ON: Final = (
    "replicaSet",
    "directConnection",
    "authSource",
    "authMechanism",
    "authMechanismProperties",
    "tls",
    "tlsCAFile",
    "tlsCertificateKeyFile",
    "tlsCertificateKeyFilePassword",
    "tlsAllowInvalidCertificates",
    "tlsAllowInvalidHostnames",
    "compressors",
    "appName",
    "connectTimeoutMS",
    "serverSelectionTimeoutMS",
    "socketTimeoutMS",
    "heartbeatFrequencyMS",
    "maxIdleTimeMS",
)
"""Parameters that mean to the driver what its own manual says."""

ANSWER_LATER_BY: Final = 2.0
"""Seconds by which the client outwaits the server, so that it is the server that says what became of a write."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is, and how it is used there."""

    shown: str
    """The URL without credentials."""
    database: str
    prefix: str
    """What the names of our collections begin with."""
    create: bool
    """Whether to make the store where there is none."""
    readers: int
    poll: float
    timeout: float
    uri: str
    """With credentials: for the driver only."""
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    def without_secrets(self, text: str) -> str:
        """A message of the driver, in which no credential is left."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def read_address(url: StoreUrl) -> Address:
    """Take from the URL what there is to know; raises `ConfigurationError` for what makes no sense."""
    if not url.host:
        raise ConfigurationError(f"{url.shown} names no host: mongodb://localhost/bank?replicaSet=rs0")
    if not re.fullmatch(r"[^/\\. \"$*<>:|?\0]{1,63}", url.path):
        raise ConfigurationError(
            f"{url.shown} names no database that MongoDB could have: mongodb://{url.host}/bank"
        )
    url.show("prefix", "replicaSet")
    prefix = url.text("prefix", default="")
    if not re.fullmatch(r"[A-Za-z0-9_]{0,64}", prefix):
        raise ConfigurationError(f"{url.shown}: prefix={prefix!r} must be letters, digits and '_'")
    create = url.choice("create", ("true", "false"), default="true") == "true"
    timeout = url.seconds("timeout", default=10.0)
    readers = url.number("readers", default=8, at_least=1)
    poll = url.seconds("poll", default=0.2)
    options = _options(url, timeout)
    url.refuse_the_rest()
    return Address(
        shown=url.shown,
        database=url.path,
        prefix=prefix,
        create=create,
        readers=readers,
        poll=poll,
        timeout=timeout,
        uri=f"{url.scheme}://{_credentials(url)}{url.host}/?{urlencode(options)}",
        secrets=tuple(
            secret for secret in (url.password, options.get("tlsCertificateKeyFilePassword")) if secret
        ),
    )


def _options(url: StoreUrl, timeout: float) -> dict[str, str]:
    # What the console of a hosted MongoDB puts into every URL that it shows.
    url.choice("w", ("majority",), default="majority")
    url.choice("retryWrites", ("true", "false"), default="true")
    # Appends are never sent again by the driver, which could not tell that the database has been restored meanwhile.
    options = {"retryWrites": "false", "retryReads": "false"}
    # A broken connection makes the driver look at once, so it need not keep two more connections to hear of changes.
    options["serverMonitoringMode"] = "poll"
    milliseconds = str(round(timeout * 1_000))
    options["serverSelectionTimeoutMS"] = milliseconds
    options["connectTimeoutMS"] = milliseconds
    options["waitQueueTimeoutMS"] = milliseconds
    options["socketTimeoutMS"] = str(round((timeout + ANSWER_LATER_BY) * 1_000))
    if url.user and url.scheme == "mongodb":
        options["authSource"] = "admin"
    for name in PASSED_ON:
        value = url.text(name, default="")
        if value:
            options[name] = value
    return options


def _credentials(url: StoreUrl) -> str:
    if url.user is None:
        return ""
    password = "" if url.password is None else f":{quote(url.password, safe='')}"
    return f"{quote(url.user, safe='')}{password}@"
