"""What only the store in NATS does: its URL, its JetStream streams, its subjects, what its servers must be."""

# pyright: reportPrivateUsage=false

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from rehydrate.errors import (
    ConfigurationError,
    StoreUnavailableError,
)
from rehydrate.nats.configuration import TlsFiles
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.port import ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import fill, sound_log
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.servers import NatsServer
from tests.store.nats_stores import config_of, delete_all, name_of, opened, refusal

StartNats = Callable[..., NatsServer]


@pytest.fixture
async def store(nats_url: str) -> AsyncIterator[NatsStore]:
    store = await opened(nats_url)
    yield store
    await store.close()


# ---- the URL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats:///bank", "names no host: nats://localhost:4222/bank"),
        ("nats://localhost", "must name the store, with at most 64 letters"),
        ("nats://localhost/", "must name the store"),
        ("nats://localhost/a.b", "must name the store"),
        ("nats://localhost/a/b", "must name the store"),
        ("nats://localhost:0/bank", "'localhost:0' is not HOST or HOST:PORT"),
        ("nats://a,b:x/bank", "'b:x' is not HOST or HOST:PORT"),
        ("nats://localhost/bank?replicas=2", "replicas=2 must be 1, 3 or 5"),
        ("nats://localhost/bank?replicas=many", "replicas='many' must be a whole number"),
        ("nats://localhost/bank?timeout=0", "timeout='0' must be a number of seconds above 0"),
        ("nats://localhost/bank?tls=maybe", "tls='maybe' must be one of true, false"),
        ("nats://localhost/bank?tls_ca=/no/such/file", "tls_ca= names no file: /no/such/file"),
        ("nats://localhost/bank?sync=never", "sync='never' must be one of ask, always"),
        ("nats://localhost/bank?replica=3", "there is no parameter 'replica'"),
    ],
)
async def test_a_url_that_makes_no_sense_is_refused_with_one_sentence(url: str, said: str) -> None:
    message = await refusal(url)
    assert said in message
    assert "\n" not in message


async def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    message = await refusal(f"nats://localhost/bank?tls_ca={tmp_path}/ca.pem")
    assert "the files of tls_ca=, tls_cert= and tls_key= cannot be used" in message


async def test_a_token_is_needed_and_is_told_nobody(start_nats: StartNats) -> None:
    server = start_nats(token="very secret")
    url = server.fresh_url()
    store = await opened(url)
    await fill(store, "account-1", 1)
    await store.close()
    assert "secret" not in store.url + repr(store._address) + repr(store._address.nats)
    for wrong in ("mine@", "me:mine@", ""):
        message = await refusal(f"nats://{wrong}{url.rpartition('@')[2]}")
        assert "does not let us in" in message
        assert "mine" not in message


async def test_nobody_who_listens_is_said_with_the_reason() -> None:
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached: .*[Cc]onnect") as refused:
        await open_store("nats://us:secret@127.0.0.1:1/bank?timeout=0.5")
    assert "secret" not in str(refused.value)


# ---- encryption


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def encrypted(start_nats: StartNats, authority: trustme.CA, tmp_path: Path) -> NatsServer:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    files = TlsFiles(
        certificate=tmp_path / "server.pem", key=tmp_path / "server.key", authority=tmp_path / "ca.pem"
    )
    return start_nats(tls=files)


async def test_a_store_is_reached_through_tls(encrypted: NatsServer, tmp_path: Path) -> None:
    store = await opened(f"{encrypted.fresh_url()}?tls_ca={tmp_path}/ca.pem")
    await fill(store, "account-1", 2)
    assert len(await sound_log(store)) == 2
    await store.close()


async def test_a_server_whose_certificate_is_not_to_be_trusted_is_not_talked_to(
    encrypted: NatsServer, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await open_store(f"{encrypted.fresh_url()}?timeout=1&tls_ca={tmp_path}/other.pem")


async def test_a_server_that_does_not_encrypt_gets_no_token_where_tls_is_asked_for(nats_url: str) -> None:
    assert "does not offer TLS" in await refusal(f"{nats_url}?tls=true")


# ---- what the servers must be


async def test_a_server_that_takes_small_messages_only_is_refused(start_nats: StartNats) -> None:
    server = start_nats(settings={"max_payload": 1_048_576})
    assert "put `max_payload: 8MB`" in await refusal(server.fresh_url())


async def test_a_server_without_jetstream_is_refused(start_nats: StartNats, nats_url: str) -> None:
    store = await opened(nats_url)
    store._connection.client._server_info["jetstream"] = False  # The test servers never start without it.
    from rehydrate.store.nats.opening import Opening

    opening = Opening(store._connection, store._jetstream, store._address, store._subjects)
    with pytest.raises(ConfigurationError, match="has no JetStream"):
        await opening.open()
    store._connection.client._server_info.update(jetstream=True, version="2.11.9")
    with pytest.raises(ConfigurationError, match=r"nats-server 2\.11\.9, which cannot store several"):
        await opening.open()
    await store.close()


async def test_more_replicas_than_servers_are_refused(nats_url: str) -> None:
    assert "replicas=3 needs a cluster" in await refusal(f"{nats_url}?replicas=3")
    await (await opened(nats_url)).close()
    assert "begin 3, and move there with `rehydrate copy`" in await refusal(f"{nats_url}?replicas=3")


async def test_a_new_store_on_a_cluster_has_three_replicas_and_as_many_as_asked_for(
    three_nats_url: str,
) -> None:
    store = await opened(three_nats_url)
    for kind in ("events", "snapshots", "consumers"):
        assert (await config_of(store, kind))["num_replicas"] == 3
    await store.close()
    single = await opened(f"{three_nats_url}-single?replicas=1")
    assert (await config_of(single, "events"))["num_replicas"] == 1
    assert "has replicas=1, fewer than replicas=3: raise them" in await refusal(
        f"{three_nats_url}-single?replicas=3"
    )
    await delete_all(single)
    await single.close()


async def test_replicas_that_cannot_be_placed_are_waited_for_and_then_said(three_nats_url: str) -> None:
    with pytest.raises(StoreUnavailableError, match="5 replicas cannot be placed now"):
        await open_store(f"{three_nats_url}?replicas=5&timeout=0.3")


async def test_a_server_that_does_not_say_whether_it_syncs_is_warned_of(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="rehydrate"):
        await (await open_store(nats_url)).close()
        (warning,) = caplog.messages
        assert "a power failure loses what was acknowledged within the last two minutes" in warning
        caplog.clear()
        await (await open_store(f"{nats_url}?sync=always")).close()
        assert caplog.messages == []


@pytest.mark.parametrize("interval", ["always", "10s"])
async def test_a_server_that_syncs_now_and_then_is_warned_of_where_it_says_so(
    start_nats: StartNats, caplog: pytest.LogCaptureFixture, interval: str
) -> None:
    service = "$SYS.REQ.SERVER.PING.JSZ"
    server = start_nats(
        token=None,
        settings={
            "jetstream": {"sync_interval": interval},
            "accounts": {
                "SYS": {"users": [{"user": "admin", "password": "x"}], "exports": [{"service": service}]},
                "APP": {
                    "jetstream": "enabled",
                    "users": [{"user": "app", "password": "y"}],
                    "imports": [{"service": {"account": "SYS", "subject": service}}],
                },
            },
            "system_account": "SYS",
        },
    )
    with caplog.at_level(logging.WARNING, logger="rehydrate"):
        await (await open_store(server.fresh_url().replace("://", "://app:y@"))).close()
    said = [] if interval == "always" else ["n0 write to disk only every 10 s"]
    assert len(caplog.messages) == len(said)
    assert all(sentence in caplog.messages[0] for sentence in said)


async def test_a_user_with_no_more_rights_than_the_page_says_opens_and_uses_a_store(
    start_nats: StartNats,
) -> None:
    allowed = ["bank.>", "$JS.API.>", "_INBOX.>"]
    rights = {"publish": allowed, "subscribe": [*allowed, "$JS.EVENT.ADVISORY.STREAM.*.bank-events"]}
    user = {"user": "app", "password": "y", "permissions": rights}
    server = start_nats(token=None, settings={"authorization": {"users": [user]}})
    store = await opened(f"{server.url.replace('://', '://app:y@')}/bank")
    await fill(store, "account-1", 3)
    await store.save_snapshot(snapshot("account-1", 3), keep=2)
    views = [ViewChange("ada", b"1")]
    assert await store.save_checkpoint(checkpoint("balances", 1), previous=None, views=views)
    assert await store.load_view("balances", "ada") == b"1"
    assert len(await sound_log(store)) == 3
    await store.close()


async def test_of_a_short_stream_no_snapshot_is_waited_for_that_no_server_hands_out(
    start_nats: StartNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is when all servers were started anew, and what the snapshots are in has no leader yet."""
    silent = [f"$JS.API.{verb}.GET.bank-snapshots" for verb in ("STREAM.MSG", "DIRECT")]
    user = {"user": "app", "password": "y", "permissions": {"publish": {"deny": silent}}}
    server = start_nats(token=None, settings={"authorization": {"users": [user]}})
    store = await opened(f"{server.url.replace('://', '://app:y@')}/bank?timeout=1")
    await fill(store, "account-1", 3)
    assert await store.load_snapshot("account-1") is None
    monkeypatch.setattr("rehydrate.store.nats.snapshots._SHORT", 2)
    with pytest.raises(StoreUnavailableError, match="gives no answer"):
        await store.load_snapshot("account-1")
    await store.close()


# ---- what a store must be


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("events", {"max_age": 10**18}, "max_age=1000000000000000000, and must have 0"),
        ("events", {"max_msgs": 10**9}, "max_msgs=1000000000, and must have -1"),
        ("events", {"max_msgs_per_subject": 10}, "max_msgs_per_subject=10, and must have -1"),
        ("events", {"discard": "old"}, "discard=old, and must have new"),
        ("events", {"allow_direct": False}, "allow_direct=False, and must have True"),
        ("consumers", {"max_msgs_per_subject": 2}, "max_msgs_per_subject=2, and must have 1"),
        ("snapshots", {"max_age": 10**18}, "max_age="),
    ],
)
async def test_a_jetstream_stream_that_could_lose_something_is_refused(
    store: NatsStore, nats_url: str, kind: str, change: dict[str, Any], said: str
) -> None:
    config = await config_of(store, kind)
    await store._jetstream.api(f"STREAM.UPDATE.{name_of(store)}-{kind}", {**config, **change})
    message = await refusal(nats_url)
    assert said in message
    assert "correct it with `nats stream edit`" in message


async def test_a_jetstream_stream_from_which_events_can_be_deleted_is_refused(
    store: NatsStore, nats_url: str
) -> None:
    config = await config_of(store, "events")
    await delete_all(store)
    await store._jetstream.api(
        f"STREAM.CREATE.{name_of(store)}-events", {**config, "deny_delete": False, "deny_purge": False}
    )
    assert "deny_delete=False, and must have True" in await refusal(nats_url)


async def test_a_jetstream_stream_of_another_program_is_refused(store: NatsStore, nats_url: str) -> None:
    await delete_all(store)
    name = name_of(store)
    await store._jetstream.api(f"STREAM.CREATE.{name}-events", {"name": f"{name}-events", "subjects": [name]})
    assert "is another program's: choose another name" in await refusal(nats_url)
    await store._jetstream.api(f"STREAM.DELETE.{name}-events")
    await store._jetstream.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"]})
    assert "choose another name" in await refusal(nats_url)


async def test_a_store_of_a_newer_rehydrate_is_refused(store: NatsStore, nats_url: str) -> None:
    config = await config_of(store, "events")
    config["metadata"]["rehydrate-format"] = "2"
    await store._jetstream.api(f"STREAM.UPDATE.{name_of(store)}-events", config)
    assert "written by a newer Rehydrate (format 2" in await refusal(nats_url)


async def test_looking_at_a_store_that_is_not_there_makes_none(nats_url: str) -> None:
    assert "holds no store" in await refusal(f"{nats_url}?create=false")
    assert "holds no store" in await refusal(f"{nats_url}?create=false")
    await (await open_store(nats_url)).close()
    await (await open_store(f"{nats_url}?create=false")).close()


async def test_two_stores_on_one_server_know_nothing_of_each_other(nats_url: str) -> None:
    first, second = await opened(nats_url), await opened(f"{nats_url}-second")
    await fill(first, "account-1", 3)
    await fill(second, "account-1", 1)
    assert (len(await sound_log(first)), len(await sound_log(second))) == (3, 1)
    await delete_all(second)
    await second.close()
    await first.close()


async def test_nobody_deletes_events(store: NatsStore) -> None:
    await fill(store, "account-1", 3)
    for request in ("STREAM.PURGE", "STREAM.MSG.DELETE"):
        with pytest.raises(Exception, match="not permitted"):
            await store._jetstream.api(f"{request}.{name_of(store)}-events", {"seq": 1})
    assert len(await sound_log(store)) == 3
