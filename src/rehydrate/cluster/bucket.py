"""The cluster's key-value bucket in NATS: compare-and-set, keys that expire, and all changes in their order.

Written against the requests of JetStream itself, because what is needed of a bucket (renewing a key that expires, reading
on from where one was) is not in its client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.nats.connection import Connection, NotAnswered, NotAnsweredError
from rehydrate.nats.requirements import check_server

_OLDEST: Final = (2, 11)
"""The first server in which single keys can expire."""
_MARKER_TTL: Final = 600
"""Seconds that it can be seen that a key has expired; who was away for longer reads everything anew."""
_PAGE: Final = 1_000
_WRONG_REVISION: Final = (10071, 10164)
"""Another revision is the newest; or another write was under way, and nobody can say."""
_NOT_FOUND: Final = 10059
_PAUSE: Final = 0.25


class Change(msgspec.Struct, frozen=True):
    """A key was written, or is gone."""

    key: str
    value: bytes
    """Empty where the key is gone."""
    revision: int


class WrongRevisionError(Exception):
    """The key is not at the revision that was expected, or it cannot be told."""


class _Answer(msgspec.Struct):
    seq: int = 0
    error: dict[str, Any] | None = None
    config: dict[str, Any] | None = None


class Bucket:
    """One bucket; revisions of all its keys grow together."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.name = name
        self.subjects = f"$KV.{name}."
        self._stream = f"KV_{name}"

    async def open(self, replicas: int | None, *, within: float, create: bool = True) -> None:
        """Find the bucket, or make it where that is asked for; waits while the servers are not ready to place it.

        Raises `ConfigurationError` for a bucket that is not as it must be, and `StoreUnavailableError`.
        """
        check_server(self._connection, oldest=_OLDEST, older="cannot have single keys expire")
        deadline = self._loop.time() + within
        reason = "no answer came"
        while self._loop.time() < deadline:
            try:
                found = await self._ask("INFO", b"")
                if found.config is not None:
                    self._check(found.config, replicas)
                    return
                code, reason = _error(found)
                if code == _NOT_FOUND and not create:
                    raise ConfigurationError(
                        f"{self._connection.address.shown}: there is no cluster of this name: is it right?"
                    )
                if code == _NOT_FOUND:
                    made = await self._ask("CREATE", msgspec.json.encode(self._settings(replicas)))
                    if made.config is not None:
                        continue
                    code, reason = _error(made)
            except NotAnsweredError as error:
                reason = "JetStream does not answer yet" if error.has_nobody else error.reason
            await asyncio.sleep(_PAUSE)
        raise StoreUnavailableError(
            f"{self._connection.address.shown}: the bucket {self.name} cannot be had: {reason}"
        )

    def _settings(self, replicas: int | None) -> dict[str, Any]:
        if replicas is None:
            # As many servers as the URL names are meant to be there; how many are at this moment says nothing.
            servers = len(self._connection.address.servers)
            replicas = 5 if servers >= 5 else 3 if servers >= 3 else 1
        return {
            "name": self._stream,
            "description": "who owns what in a cluster of Rehydrate",
            "subjects": [f"{self.subjects}>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "num_replicas": replicas,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": _MARKER_TTL * 1_000_000_000,
        }

    def _check(self, config: Mapping[str, Any], replicas: int | None) -> None:
        shown = f"{self._connection.address.shown}: the bucket {self.name}"
        wanted = self._settings(config["num_replicas"])
        for name in (
            "max_msgs_per_subject",
            "allow_direct",
            "allow_msg_ttl",
            "subject_delete_marker_ttl",
            "max_age",
        ):
            if config.get(name, 0) != wanted[name]:
                raise ConfigurationError(
                    f"{shown} was made with {name}={config.get(name)} and not {wanted[name]}: delete it while no node "
                    "runs, or choose another name for the cluster"
                )
        if replicas is not None and config["num_replicas"] < replicas:
            raise ConfigurationError(
                f"{shown} has {config['num_replicas']} replicas, and replicas={replicas} asks for more: raise it with "
                f"`nats stream update KV_{self.name} --replicas={replicas}`"
            )

    async def _ask(self, verb: str, payload: bytes, timeout: float = 2.0) -> _Answer:
        message = await self._connection.ask(
            f"$JS.API.STREAM.{verb}.{self._stream}", payload, timeout=timeout
        )
        return msgspec.json.decode(message.data, type=_Answer)

    # ------------------------------------------------------------------------------------------------------------ writing

    async def put(
        self, key: str, value: bytes, *, revision: int, ttl: int | None = None, timeout: float = 2.0
    ) -> int:
        """Write a key that is at this revision (0 where it has none); its new revision.

        Raises `WrongRevisionError`, and `NotAnsweredError` where nobody knows what became of it.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        if ttl is not None:
            headers["Nats-TTL"] = f"{ttl}s"
        return await self._write(key, value, headers, timeout)

    async def delete(self, key: str, *, revision: int, timeout: float = 2.0) -> int:
        """Take a key away that is at this revision; raises what `put` raises."""
        headers = {"KV-Operation": "DEL", "Nats-Expected-Last-Subject-Sequence": str(revision)}
        return await self._write(key, b"", headers | {"Nats-TTL": f"{_MARKER_TTL}s"}, timeout)

    async def _write(self, key: str, value: bytes, headers: Mapping[str, str], timeout: float) -> int:
        message = await self._connection.ask(self.subjects + key, value, headers=headers, timeout=timeout)
        answer = msgspec.json.decode(message.data, type=_Answer)
        if answer.error is None:
            return answer.seq
        code, reason = _error(answer)
        if code in _WRONG_REVISION:
            raise WrongRevisionError(reason)
        raise NotAnsweredError(NotAnswered(reason, is_sent=True))

    # ------------------------------------------------------------------------------------------------------------ reading

    async def changes(self, after: int, *, timeout: float = 2.0) -> list[Change]:
        """The newest change of each key that has changed after a revision, oldest first. Raises `NotAnsweredError`."""
        changes: list[Change] = []
        while True:
            page, is_last = await self._page(after, timeout)
            changes += page
            if is_last or not page:
                return changes
            after = page[-1].revision

    async def _page(self, after: int, timeout: float) -> tuple[list[Change], bool]:
        done: asyncio.Future[bool] = self._loop.create_future()
        page: list[Change] = []

        def answered(message: Any) -> bool:
            if done.done():
                return False
            if isinstance(message, NotAnswered):
                done.set_exception(NotAnsweredError(message))
                return False
            headers: Mapping[str, str] = message.headers or {}
            status = headers.get("Status")
            if int(headers.get("Nats-Last-Sequence", 0)) != (page[-1].revision if page else 0):
                # A connection between servers may break, and be there again, in the middle of a page.
                lost = NotAnswered("a part of a page was lost on its way", is_sent=True)
                done.set_exception(NotAnsweredError(lost))
            elif status is None:
                page.append(self._change(message.data, headers))
                return True
            elif status in ("204", "404"):
                # The end of a page, and whether there is more; or there is nothing.
                done.set_result(status == "404" or headers.get("Nats-Num-Pending", "0") == "0")
            else:
                reason = f"the bucket cannot be read: {status} {headers.get('Description', '')}"
                done.set_exception(NotAnsweredError(NotAnswered(reason, is_sent=True)))
            return False

        question = {"seq": after + 1, "batch": _PAGE, "next_by_subj": f"{self.subjects}>"}
        self._connection.call(
            f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(question), answered, timeout=timeout
        )
        return page, await done

    def _change(self, data: bytes, headers: Mapping[str, str]) -> Change:
        is_gone = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
        key = headers["Nats-Subject"][len(self.subjects) :]
        return Change(key, b"" if is_gone else data, int(headers["Nats-Sequence"]))


def _error(answer: _Answer) -> tuple[int, str]:
    error = answer.error or {}
    return error.get("err_code", 0), error.get("description", "the answer cannot be read")
