"""What is checked, and made, when a store is opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.nats.connection import Connection
from rehydrate.nats.requirements import check_server
from rehydrate.store.nats import failures
from rehydrate.store.nats.address import Address
from rehydrate.store.nats.failures import JetStreamError
from rehydrate.store.nats.jetstream import PAUSE, JetStream
from rehydrate.store.nats.subjects import Subjects

logger = logging.getLogger(__name__)

MIN_PAYLOAD: Final = 2 * 1024 * 1024
_OLDEST: Final = (2, 12)
"""The first server that stores several messages as one."""
FORMAT: Final = "1"
_FORMAT_KEY: Final = "rehydrate-format"
_IN_A_CLUSTER: Final = 3
"""Replicas of a new store, where the servers are a cluster and nobody says how many."""
_DURABLE: Final = {
    "retention": "limits",
    "storage": "file",
    "max_age": 0,
    "max_msgs": -1,
    "discard": "new",
}
"""What every JetStream stream of a store has to be, for nothing may go away by itself."""
_EVENTS: Final = {
    **_DURABLE,
    "max_msgs_per_subject": -1,
    "deny_delete": True,
    "deny_purge": True,
    "allow_direct": True,
}
_SNAPSHOTS: Final = {**_DURABLE, "max_msgs_per_subject": -1, "allow_rollup_hdrs": True, "allow_direct": True}
_CONSUMERS: Final = {
    **_DURABLE,
    "max_msgs_per_subject": 1,
    "discard_new_per_subject": False,
    "allow_atomic": True,
    "allow_msg_ttl": True,
}


class Opening:
    """Opens, and where it may creates, the JetStream streams of a store."""

    def __init__(
        self, connection: Connection, jetstream: JetStream, address: Address, subjects: Subjects
    ) -> None:
        self._connection = connection
        self._info = connection.server_info
        self._jetstream = jetstream
        self._address = address
        self._shown = address.shown
        self._wanted: dict[str, tuple[list[str], Mapping[str, object]]] = {
            subjects.snapshots_stream: ([subjects.all_snapshots], _SNAPSHOTS),
            subjects.consumers_stream: ([subjects.all_checkpoints, subjects.all_views], _CONSUMERS),
            subjects.events_stream: ([subjects.all_events], _EVENTS),
        }

    async def open(self) -> None:
        """Check the servers and the store, and make what is missing.

        Raises:
            ConfigurationError: a store cannot be kept there, or is not what the URL says.
            StoreUnavailableError: the servers cannot answer now.
        """
        self._check_server()
        there = dict(zip(self._wanted, await asyncio.gather(*map(self._config, self._wanted)), strict=True))
        if None in there.values() and not self._address.create:
            raise ConfigurationError(
                f"{self._shown} holds no store, and looking at it must not make one: is its name right?"
            )
        for name, found in there.items():
            if found is not None:
                self._check(name, found)
        # Whoever finds a part of them makes the rest: nothing is lost where this is broken off.
        missing = [name for name, found in there.items() if found is None]
        made = await asyncio.gather(*map(self._create, missing), return_exceptions=True)
        for name, outcome in zip(missing, made, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            self._check(name, outcome)

    def _check_server(self) -> None:
        check_server(self._connection, oldest=_OLDEST, older="cannot store several messages as one")
        payload = int(self._info.get("max_payload", 0))
        if payload < MIN_PAYLOAD:
            raise ConfigurationError(
                f"{self._shown} takes messages of at most {payload:,} bytes, too few for an append: put "
                f"`max_payload: 8MB` (at least {MIN_PAYLOAD:,}) into the configuration of its servers"
            )

    async def _config(self, name: str) -> Mapping[str, Any] | None:
        try:
            config: Mapping[str, Any] = (await self._jetstream.api(f"STREAM.INFO.{name}"))["config"]
        except JetStreamError as error:
            if error.err_code == failures.NO_STREAM:
                return None
            raise self._refused(error) from error
        return config

    async def _create(self, name: str) -> Mapping[str, Any]:
        """Make a JetStream stream; wait where its replicas cannot be placed yet."""
        subjects, config = self._wanted[name]
        body: dict[str, object] = {
            "name": name,
            "subjects": subjects,
            "num_replicas": self._address.replicas or self._fitting_replicas(),
            "metadata": {_FORMAT_KEY: FORMAT},
            **config,
        }
        if self._address.max_bytes and config is _EVENTS:
            body["max_bytes"] = self._address.max_bytes
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._address.nats.timeout
        while True:
            try:
                made: Mapping[str, Any] = (await self._jetstream.api(f"STREAM.CREATE.{name}", body))["config"]
            except JetStreamError as error:
                if error.err_code == failures.IN_USE_OTHERWISE:
                    # Another process was faster, and has another opinion of it.
                    return await self._config(name) or {}
                waits = error.err_code == failures.NO_SUITABLE_PEERS or error.is_passing
                if not waits or loop.time() > give_up:
                    raise self._refused(error) from error
            else:
                return made
            await asyncio.sleep(2 * PAUSE)

    def _fitting_replicas(self) -> int:
        return _IN_A_CLUSTER if self._info.get("cluster") else 1

    def _refused(self, error: JetStreamError) -> Exception:
        replicas = self._address.replicas or self._fitting_replicas()
        if error.err_code == failures.NO_SUITABLE_PEERS:
            return StoreUnavailableError(
                f"{self._shown}: {replicas} replicas cannot be placed now ({error.description}): start the other servers "
                "of the cluster, or give replicas="
            )
        if error.err_code == failures.NOT_CLUSTERED:
            return ConfigurationError(
                f"{self._shown} is a server of its own, and replicas={replicas} needs a cluster of as many"
            )
        if error.err_code == failures.SUBJECTS_OVERLAP:
            return ConfigurationError(
                f"{self._shown}: another JetStream stream takes the subjects that begin with "
                f"{self._address.name!r}: choose another name"
            )
        if error.err_code in {failures.NOT_ENABLED, failures.NOT_ENABLED_FOR_ACCOUNT}:
            return ConfigurationError(f"{self._shown}: this user's account has no JetStream: enable it there")
        return self._jetstream.refused(error)

    def _check(self, name: str, found: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` where the promises could not be kept."""
        subjects, wanted = self._wanted[name]
        metadata: Mapping[str, str] = found.get("metadata") or {}
        written_by = metadata.get(_FORMAT_KEY)
        if written_by is None:
            raise ConfigurationError(
                f"{self._shown}: the JetStream stream {name} is another program's: choose another name"
            )
        if written_by != FORMAT:
            raise ConfigurationError(
                f"{self._shown} was written by a newer Rehydrate (format {written_by}, this one knows {FORMAT}): "
                "upgrade Rehydrate"
            )
        # A server leaves out what is false, empty or nothing.
        for key, value in (*wanted.items(), ("subjects", subjects)):
            is_there = found.get(key) or type(value)()
            if key == "deny_purge" and found.get("sealed"):
                continue
            if is_there != value:
                raise ConfigurationError(
                    f"{self._shown}: the JetStream stream {name} has {key}={is_there}, and must have {value}: events could "
                    "be lost; correct it with `nats stream edit`"
                )
        if found.get("persist_mode", "default") not in {"", "default"}:
            raise ConfigurationError(
                f"{self._shown}: the JetStream stream {name} answers before it has written (persist_mode="
                f"{found['persist_mode']}): what was acknowledged could be lost"
            )
        replicas = int(found.get("num_replicas", 1))
        if replicas < self._address.replicas:
            wanted_replicas = self._address.replicas
            raise ConfigurationError(
                f"{self._shown}: the JetStream stream {name} has replicas={replicas}, fewer than replicas={wanted_replicas}: "
                + (
                    f"raise them with `nats stream edit {name} --replicas={wanted_replicas}`"
                    if self._info.get("cluster")
                    else f"this server stands alone; begin {wanted_replicas}, and move there with `rehydrate copy`"
                )
            )
