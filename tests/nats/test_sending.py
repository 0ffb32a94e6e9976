"""One message that cannot be sent keeps none from being sent that comes after it."""

# pyright: reportPrivateUsage=false

import logging

import pytest

from rehydrate.nats.address import read_nats_address
from rehydrate.nats.connection import Connection, NotAnsweredError
from rehydrate.store_url import StoreUrl


async def test_what_comes_behind_a_message_that_fails_for_an_unforeseen_reason_is_sent(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection(read_nats_address(StoreUrl(nats_url)))
    await connection.open()
    publish = connection.client.publish

    async def failing(subject: str, *arguments: object) -> None:
        if subject == "fails":
            raise ValueError("nobody has thought of that")
        await publish(subject, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(connection.client, "publish", failing)
    with caplog.at_level(logging.ERROR), pytest.raises(NotAnsweredError, match="nobody has thought of that"):
        await connection.ask("fails")
    assert "a message was not sent" in caplog.text
    assert b"memory" in (await connection.ask("$JS.API.INFO")).data
    await connection.close()
