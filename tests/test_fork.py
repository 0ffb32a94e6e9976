"""What a fork must not fall into, between threads of this process: it waits for them, and they for it."""

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rehydrate import fork
from rehydrate.fork import no_fork
from rehydrate.testing.clock import until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")

forks: Any = vars(fork)["_forks"]


def exit_of_child(code: Callable[[], int] = lambda: 0) -> int:
    """Fork; with what the child ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os._exit(code())
        except BaseException:  # noqa: BLE001 - it must not go on as a second pytest
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.fixture
def comes_out() -> Iterator[threading.Event]:
    """Lets out a thread that is inside from before the test until then."""
    goes_in, comes_out = threading.Event(), threading.Event()

    def stay() -> None:
        with no_fork():
            goes_in.set()
            comes_out.wait()

    thread = in_a_thread(stay)
    goes_in.wait()
    yield comes_out
    comes_out.set()
    thread.join()


async def test_a_fork_waits_for_who_is_inside_and_who_comes_later_waits_for_the_fork(
    comes_out: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork, "FORK_WAITS", 60.0)
    is_in = False
    exits: list[int] = []

    def go_in() -> None:
        nonlocal is_in
        with no_fork():
            is_in = True

    forking = in_a_thread(lambda: exits.append(exit_of_child(lambda: int(is_in))))
    await until(lambda: forks.is_due)
    later = in_a_thread(go_in)
    assert (exits, is_in) == ([], False)
    comes_out.set()
    forking.join()
    later.join()
    assert (exits, is_in) == ([0], True)


async def test_who_lets_others_fork_comes_out_only_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "FORK_WAITS", 60.0)
    no_fork().let_fork()
    exits: list[int] = []
    with no_fork():
        forking = in_a_thread(lambda: exits.append(exit_of_child()))
        await until(lambda: forks.is_due)
        with no_fork():
            no_fork().let_fork()
    forking.join()
    assert exits == [0]


def test_several_threads_fork_at_once_while_others_go_in_and_out() -> None:
    inside: set[int] = set()
    ended = threading.Event()
    exits: list[int] = []

    def go_in_and_out() -> None:
        while not ended.is_set():
            with no_fork():
                inside.add(threading.get_ident())
                ended.wait(0.0001)
                inside.discard(threading.get_ident())

    def fork_often() -> None:
        exits.extend(exit_of_child(lambda: len(inside)) for _ in range(10))

    others = [in_a_thread(go_in_and_out) for _ in range(3)]
    for thread in [in_a_thread(fork_often) for _ in range(3)]:
        thread.join()
    ended.set()
    for thread in others:
        thread.join()
    assert exits == [0] * 30


def test_who_is_inside_can_fork_and_its_child_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "FORK_WAITS", 60.0)
    with no_fork():
        assert exit_of_child(exit_of_child) == 0
    with no_fork():
        assert exit_of_child() == 0


def test_a_fork_waits_for_nobody_for_ever_and_says_so(
    comes_out: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the child nobody is inside any more."""

    def fork_again() -> int:
        fork.FORK_WAITS = 60.0  # type: ignore[misc]
        with no_fork():
            return exit_of_child()

    monkeypatch.setattr(fork, "FORK_WAITS", 0.02)
    assert exit_of_child(fork_again) == 0
    assert caplog.messages == [
        "a fork waited for 0.02 s, and somebody still was in a call that it should not fall into: the child may hang"
    ]
    comes_out.set()
    assert exit_of_child() == 0
    assert len(caplog.messages) == 1


def test_threads_that_have_ended_are_forgotten() -> None:
    def go_in() -> None:
        with no_fork():
            pass

    go_in()
    known: set[object] = forks._all
    before = len(known)
    for thread in [in_a_thread(go_in) for _ in range(20)]:
        thread.join()
    assert len(known) == before
    assert exit_of_child() == 0


WAITS_FOR_WHO_WAITS = """
import os, threading
is_known, goes_in, is_in, forked = [threading.Event() for _ in range(4)]

def before():
    goes_in.set()
    is_in.wait()

os.register_at_fork(before=before)      # Called after those that are registered later.

from rehydrate import fork
fork.OTHERS_WAIT = 0.02

def go_in():
    with fork.no_fork():
        is_known.set()
    goes_in.wait()
    with fork.no_fork():
        is_in.set()
        forked.wait()
    with fork.no_fork():
        pass

thread = threading.Thread(target=go_in)
thread.start()
is_known.wait()
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
forked.set()
thread.join()
print("ended")
"""


def test_what_is_done_before_a_fork_may_wait_for_who_waits_for_it() -> None:
    """A hook of somebody else, or what the collector runs in the middle of it."""
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", WAITS_FOR_WHO_WAITS]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "ended\n")
