"""A primary that is lost under load, and another server in its place: what was acknowledged is there exactly once."""

from __future__ import annotations

import random
from asyncio import to_thread
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pymongo import WriteConcern
from pymongo.errors import DuplicateKeyError

from rehydrate.testing.clock import until
from rehydrate.testing.servers import MongoMember, MongoServer, PostgresServer
from rehydrate.testing.servers.databases import ask, mongo_client
from tests.faults.campaign import Campaign, verify
from tests.faults.commands import endless_commands
from tests.faults.reader import reader_of
from tests.faults.real_servers import LIMIT, impatient, with_options
from tests.faults.workers import workers_on

FailOver = Callable[[MongoMember, Campaign], Coroutine[Any, Any, None]]


async def is_killed(primary: MongoMember, campaign: Campaign) -> None:
    """And comes back when another one has long taken over."""
    await to_thread(primary.kill)
    await campaign.get_on(50)
    await to_thread(primary.start)


async def stands_still(primary: MongoMember, campaign: Campaign) -> None:
    """Until another one has taken over; then it goes on, and does not know that it is none any more."""
    primary.pause()
    try:
        await campaign.get_on(50)
    finally:
        primary.resume()


async def is_shut_down(primary: MongoMember, campaign: Campaign) -> None:
    """In good order, as for an upgrade."""
    await to_thread(primary.stop)
    await campaign.get_on(50)
    await to_thread(primary.start)


async def _run(
    server: MongoServer, fail_over: FailOver, chance: random.Random, *, times: int, processes: int
) -> None:
    url = with_options(impatient(server.fresh_url()), timeout=3)
    async with workers_on(url) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)

        async def again_and_again() -> None:
            await campaign.get_on(50)
            for _ in range(times):
                primary = await to_thread(server.primary)
                await fail_over(primary, campaign)
                await campaign.get_on(chance.randint(1, 50))

        await campaign.run_through(again_and_again(), endless_commands(20, chance), processes=processes)
        await verify(url, campaign, reader)


async def test_a_primary_of_three_is_killed_under_load_and_the_service_resumes_by_itself(
    start_mongodb: Callable[..., MongoServer], chance: random.Random
) -> None:
    await _run(await to_thread(start_mongodb, 3), is_killed, chance, times=1, processes=2)


@pytest.mark.slow  # Each election takes some seconds; until MongoDB is over a primary that stands still it may be a minute.
@pytest.mark.parametrize("fail_over", [is_killed, stands_still, is_shut_down])
async def test_one_primary_of_three_after_the_other_is_lost_under_the_load_of_four_processes(
    start_mongodb: Callable[..., MongoServer], fail_over: FailOver, chance: random.Random
) -> None:
    await _run(await to_thread(start_mongodb, 3), fail_over, chance, times=3, processes=4)


@pytest.mark.slow  # Three servers are stopped, started and elect one of them.
async def test_writes_that_a_fail_over_rolls_back_are_seen_by_no_reader_and_leave_no_hole(
    start_mongodb: Callable[..., MongoServer], chance: random.Random
) -> None:
    """What a majority does not have is nowhere, be it of a command under way or of a stranger who waited for less."""
    server = await to_thread(start_mongodb, 3)
    url = with_options(impatient(server.fresh_url()), timeout=3)
    database = urlsplit(url).path.strip("/")
    async with workers_on(url) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)

        async def fails_over_and_rolls_back() -> None:
            await campaign.get_on(50)
            primary = await to_thread(server.primary)
            others = [member for member in server.members if member is not primary]
            for member in others:
                await to_thread(member.kill)
            await to_thread(_insert_alone, primary, database)
            await to_thread(primary.kill)
            for member in others:
                await to_thread(member.start)
            await campaign.get_on(50)
            await to_thread(primary.start)
            await until(lambda: _strangers_on(primary, database) == 0, hang_limit=LIMIT)

        await campaign.run_through(fails_over_and_rolls_back(), endless_commands(20, chance), processes=2)
        await verify(url, campaign, reader)


def _insert_alone(primary: MongoMember, database: str) -> None:
    """Insert a document at the end of the log, which nobody else has."""
    with mongo_client(primary.url) as client:
        events = client.get_database(database).get_collection("events", write_concern=WriteConcern(w=1))
        while True:
            last = events.find_one(sort=[("_id", -1)])
            assert last is not None
            event = {"id": "x", "type": "T", "data": b"", "metadata": b"{}"}
            place = {"_id": last["_id"] + last["count"], "stream": "stranger-1", "version": 1, "count": 1}
            try:
                events.insert_one({**place, "recorded_at": 0, "events": [event]})
            except DuplicateKeyError:
                continue
            assert events.count_documents({"stream": "stranger-1"}) == 1
            return


def _strangers_on(member: MongoMember, database: str) -> int:
    with mongo_client(member.url) as client:
        return client.get_database(database)["events"].count_documents({"stream": "stranger-1"})


# ---- PostgreSQL


def with_standby(primary: PostgresServer, standby: PostgresServer, url: str) -> str:
    """The same database, on whichever of the two takes writes."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@{host},127.0.0.1:{standby.port}"))


@pytest.mark.parametrize("version", [pytest.param(16, marks=pytest.mark.slow), 18])
async def test_a_primary_whose_commits_wait_for_a_standby_is_lost_under_load_and_the_standby_takes_over(
    start_postgres: Callable[..., PostgresServer], version: int, chance: random.Random
) -> None:
    primary = await to_thread(start_postgres, version)
    database = primary.fresh_url()
    standby = await to_thread(primary.start_standby)
    await to_thread(
        ask,
        primary.url,
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    )
    url = impatient(with_standby(primary, standby, database))
    async with workers_on(url) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)

        async def fails_over() -> None:
            await campaign.get_on(200)
            await to_thread(primary.kill)
            await to_thread(standby.promote)
            await campaign.get_on(200)

        await campaign.run_through(fails_over(), endless_commands(20, chance), processes=2)
        await verify(url, campaign, reader)
