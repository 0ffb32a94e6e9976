"""What pytest gets from Rehydrate by itself: fixtures for time and for real servers, markers, readable assertions.

Loaded into every pytest run of whoever has Rehydrate installed, so it imports nothing before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import pytest

if TYPE_CHECKING:
    from rehydrate.testing.clock import FakeClock
    from rehydrate.testing.servers import MongoServer, NatsServer, PostgresServer, ServerRoom

POSTGRES_URL: Final = "REHYDRATE_TEST_POSTGRES_URL"
MONGODB_URL: Final = "REHYDRATE_TEST_MONGODB_URL"
NATS_URL: Final = "REHYDRATE_TEST_NATS_URL"
"""Where tests find a server of your own, whose user may create databases."""
REQUIRE_SERVERS: Final = "REHYDRATE_REQUIRE_SERVERS"
"""With 1, a server that cannot be had fails the tests that need it, rather than skip them."""

P = ParamSpec("P")
S = TypeVar("S", "PostgresServer", "MongoServer", "NatsServer")

_missing = pytest.StashKey[set[str]]()
_HANDED_ON: Final = "rehydrate_missing_servers"

pytest.register_assert_rewrite("rehydrate.testing.conformance")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_missing] = set()
    config.addinivalue_line(
        "markers", "processes: a law of the conformance kit that starts, stops and kills processes of its own"
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One process of several, under pytest-xdist, hands on what it missed."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        missing = session.config.stash[_missing]
        output[_HANDED_ON] = sorted(missing)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_missing].update(getattr(node, "workeroutput", {}).get(_HANDED_ON, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A server that was missing is said once more at the end, where it is not overlooked."""
    if missing := config.stash[_missing]:
        terminalreporter.section("servers that tests were skipped for", yellow=True, bold=True)
        for line in sorted(missing):
            terminalreporter.line(line, yellow=True)


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it: `await fake_clock.advance(30)`."""
    from rehydrate.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture(scope="session")
def server_room() -> Iterator[ServerRoom]:
    """Where servers are started; at the end of the session none of them is left."""
    from rehydrate.testing.servers import ServerRoom

    with ServerRoom() as room:
        yield room


@pytest.fixture
def postgres_version() -> int:
    """The version of PostgreSQL that `postgres_url` is of: `@pytest.mark.parametrize("postgres_version", [16, 18])`."""
    from rehydrate.testing.servers.found import POSTGRES_VERSIONS

    return POSTGRES_VERSIONS[0]


@pytest.fixture
def postgres_url(
    server_room: ServerRoom, postgres_version: int, pytestconfig: pytest.Config
) -> Iterator[str]:
    """The URL of an empty PostgreSQL database: on a server that the session shares, or on one of your own."""
    from rehydrate.testing.servers import database_on

    server = os.environ.get(POSTGRES_URL)
    lent = database_on(server) if server else server_room.postgres_database(postgres_version)
    with _or_skipped(pytestconfig), lent as url:
        yield url


@pytest.fixture
def mongodb_url(server_room: ServerRoom, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of an empty MongoDB database: on a replica set that the session shares, or on one of your own."""
    from rehydrate.testing.servers import database_on

    server = os.environ.get(MONGODB_URL)
    lent = database_on(server) if server else server_room.mongodb_database()
    with _or_skipped(pytestconfig), lent as url:
        yield url


@pytest.fixture
def nats_url(server_room: ServerRoom, pytestconfig: pytest.Config) -> Iterator[str]:
    """A URL of NATS with a name that nothing is stored under: on a server that the session shares, or on your own."""
    from rehydrate.testing.servers import database_on

    server = os.environ.get(NATS_URL)
    lent = database_on(server) if server else server_room.nats_database()
    with _or_skipped(pytestconfig), lent as url:
        yield url


@pytest.fixture
def three_nats_url(server_room: ServerRoom, pytestconfig: pytest.Config) -> Iterator[str]:
    """The same on three nodes that the session shares, which keep three copies. A server of yours is never used."""
    with _or_skipped(pytestconfig), server_room.nats_database(3) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server(server_room: ServerRoom, pytestconfig: pytest.Config) -> PostgresServer:
    """The PostgreSQL that the session shares, which no test may stop: `postgres_server.fresh_url()`."""
    with _or_skipped(pytestconfig):
        return server_room.shared_postgres()


@pytest.fixture(scope="session")
def mongodb_server(server_room: ServerRoom, pytestconfig: pytest.Config) -> MongoServer:
    """The replica set of MongoDB that the session shares, which no test may stop: `mongodb_server.fresh_url()`."""
    with _or_skipped(pytestconfig):
        return server_room.shared_mongodb()


@pytest.fixture(scope="session")
def nats_server(server_room: ServerRoom, pytestconfig: pytest.Config) -> NatsServer:
    """The NATS that the session shares, which no test may stop: `nats_server.fresh_url()`."""
    with _or_skipped(pytestconfig):
        return server_room.shared_nats()


@pytest.fixture
def start_postgres(
    server_room: ServerRoom, pytestconfig: pytest.Config
) -> Iterator[Callable[..., PostgresServer]]:
    """Starts a PostgreSQL of the test's own, to be stopped, killed, or set back: `start_postgres(version=16)`.

    It takes what `ServerRoom.start_postgres` takes. The server ends with the test. A server of yours is never used.
    """
    with _starting(server_room.start_postgres, server_room, pytestconfig) as start:
        yield start


@pytest.fixture
def start_mongodb(
    server_room: ServerRoom, pytestconfig: pytest.Config
) -> Iterator[Callable[..., MongoServer]]:
    """Starts a replica set of the test's own, to be stopped, killed, or set back: `start_mongodb(members=3)`.

    It takes what `ServerRoom.start_mongodb` takes. The servers end with the test. A server of yours is never used.
    """
    with _starting(server_room.start_mongodb, server_room, pytestconfig) as start:
        yield start


@pytest.fixture
def start_nats(server_room: ServerRoom, pytestconfig: pytest.Config) -> Iterator[Callable[..., NatsServer]]:
    """Starts a NATS of the test's own, to be stopped, killed, or set back: `start_nats(nodes=3)`.

    It takes what `ServerRoom.start_nats` takes. The servers end with the test. A server of yours is never used.
    """
    with _starting(server_room.start_nats, server_room, pytestconfig) as start:
        yield start


@contextmanager
def _starting(start: Callable[P, S], room: ServerRoom, config: pytest.Config) -> Generator[Callable[P, S]]:
    started: list[S] = []

    def start_one(*args: P.args, **kwargs: P.kwargs) -> S:
        with _or_skipped(config):
            started.append(start(*args, **kwargs))
        return started[-1]

    try:
        yield start_one
    finally:
        for server in started:
            room.discard(server)


@contextmanager
def _or_skipped(config: pytest.Config) -> Generator[None]:
    """A server that is not there is a loud skip, or a failure where servers are required."""
    from rehydrate.testing.servers import ServerNotFoundError

    missing = ""
    try:
        yield
    except ServerNotFoundError as not_found:
        missing = str(not_found)
    if missing:
        if os.environ.get(REQUIRE_SERVERS, "") not in {"", "0"}:
            pytest.fail(f"{missing} ({REQUIRE_SERVERS} is set)", pytrace=False)
        config.stash[_missing].add(missing)
        pytest.skip(missing)
