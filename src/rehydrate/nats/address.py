"""What a URL says of how to reach NATS, for the store and for the cluster: `nats://token@host:4222,host:4222/...`."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from rehydrate.errors import ConfigurationError
from rehydrate.store_url import StoreUrl

DEFAULT_PORT: Final = 4222
_FILES: Final = ("tls_ca", "tls_cert", "tls_key")


class NatsAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers there are, and who we are to them."""

    shown: str
    """The URL without credentials."""
    servers: tuple[str, ...]
    """As the client takes them, without credentials."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    timeout: float = 10.0
    """Seconds until a call is given up."""
    tls: bool = False
    """Whether to speak to nobody who does not encrypt. Where a server asks for it, it is done in any case."""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def __repr__(self) -> str:
        return f"NatsAddress({self.shown!r})"

    def without_secrets(self, text: str) -> str:
        """A message of the client, in which no credential is left."""
        for secret in (self.password, self.token):
            if secret:
                text = text.replace(secret, "***")
        return text

    def ssl_context(self) -> ssl.SSLContext:
        """Whom to trust, and as whom to appear; raises `ConfigurationError` where a file is none of its kind."""
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except OSError as error:
            raise ConfigurationError(
                f"{self.shown}: the files of tls_ca=, tls_cert= and tls_key= cannot be used: {error}"
            ) from None
        return context


def read_nats_address(url: StoreUrl) -> NatsAddress:
    """Take from a URL what says how to connect, and leave the rest. Raises `ConfigurationError` for what makes no sense."""
    if not url.host:
        raise ConfigurationError(f"{url.shown} names no host: nats://localhost:{DEFAULT_PORT}/bank")
    files = {name: url.text(name, default="") for name in _FILES}
    for name, file in files.items():
        if file and not Path(file).is_file():
            raise ConfigurationError(f"{url.shown}: {name}= names no file: {file}")
    if files["tls_key"] and not files["tls_cert"]:
        raise ConfigurationError(f"{url.shown}: tls_key= is the key of a certificate: give tls_cert=, too")
    tls = url.choice("tls", ("true", "false"), default="true" if any(files.values()) else "false") == "true"
    if any(files.values()) and not tls:
        raise ConfigurationError(f"{url.shown}: tls=false, but there are certificates: leave one of them out")
    return NatsAddress(
        shown=url.shown,
        servers=tuple(_server(url, one) for one in url.host.split(",")),
        user=url.user if url.password is not None else None,
        password=url.password,
        token=url.user if url.password is None else None,
        timeout=url.seconds("timeout", default=10.0),
        tls=tls,
        **files,
    )


def _server(url: StoreUrl, text: str) -> str:
    name, colon, port = text.rpartition(":")
    if not colon or name.endswith(":") or text.endswith("]"):
        name, port = text, str(DEFAULT_PORT)
    server = f"nats://{name}:{port}"
    if not (name and port.isascii() and port.isdigit() and 0 < int(port) < 65_536 and _can_be_split(server)):
        raise ConfigurationError(f"{url.shown}: {text!r} is not HOST or HOST:PORT")
    return server


def _can_be_split(server: str) -> bool:
    try:
        urlsplit(server)
    except ValueError:  # A bracket that is not closed, or is none of an IPv6 address.
        return False
    return True
