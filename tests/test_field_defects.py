"""The defects that systems of this kind have been seen with, and where it is tested that this one has none of them.

`DEFECTS` and `TRAPS` name the tests; those that belong nowhere else are below, and for stores in
`tests/store/test_field_defects_of_stores.py`.
"""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Final

import pytest

from rehydrate import (
    Aggregate,
    App,
    CommandResult,
    CommandTimeoutError,
    OutcomeUnknownError,
    Snapshot,
    StreamQuarantinedError,
)
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Delay, Hang, Refuse
from tests.bank import (
    Account,
    Command,
    Crash,
    Deposit,
    Event,
    InsufficientFunds,
    Split,
    Withdraw,
    account,
    app,
    bank_account,
    decide,
    evolve,
)
from tests.stand_ins import SHARED, staged

ROOT: Final = Path(__file__).parent.parent
HERE: Final = "tests/test_field_defects.py"
STORES: Final = "tests/store/test_field_defects_of_stores.py"
KIT: Final = "src/rehydrate/testing/conformance"
RUNTIME: Final = "tests/runtime"

DEFECTS: Final[dict[str, tuple[str, ...]]] = {
    "one slow command holds up every other aggregate": (
        f"{HERE}::test_a_slow_command_holds_up_no_other_aggregate",
        f"{HERE}::test_a_long_rehydration_holds_up_no_other_aggregate",
    ),
    "a time-out is reported as a failure although the command is stored, and the id cannot be used after it": (
        f"{HERE}::test_after_a_time_out_the_truth_is_told_and_the_aggregate_can_be_used",
        f"{RUNTIME}/test_deadlines.py::test_a_deadline_that_passes_during_the_append_means_that_nobody_knows",
    ),
    "an actor in use is unloaded because a refusal does not count as use": (
        f"{RUNTIME}/test_passivation.py::test_every_outcome_counts_as_use",
    ),
    "a command with several events steps over the snapshot": (
        f"{RUNTIME}/test_snapshots.py::test_a_command_with_several_events_does_not_step_over_it",
    ),
    "a stream becomes unreadable because another one's name ends like its own": (
        f"{KIT}/ids.py::test_streams_that_begin_or_end_with_each_others_names_are_different_streams",
    ),
    "two streams share one place because their names were made harmless": (
        f"{KIT}/ids.py::test_streams_that_look_alike_are_different_streams",
        f"{HERE}::test_aggregates_whose_ids_look_alike_are_different_aggregates",
    ),
    "all checkpoints vanish with the consumer that happened to start first": (
        f"{STORES}::test_checkpoints_outlive_whoever_saved_them",
        f"{KIT}/checkpoints.py::test_checkpoints_and_views_survive_reopening",
    ),
    "the checkpoint is kept and the read model is not": (
        f"{STORES}::test_a_checkpoint_is_saved_with_its_views_or_not_at_all",
        f"{KIT}/crashes.py::test_a_checkpoint_and_its_views_survive_a_kill_as_one",
    ),
    "an append is several writes, and a crash between them leaves a part": (
        f"{KIT}/crashes.py::test_what_was_acknowledged_survives_a_kill_in_the_middle_of_appends",
        f"{KIT}/ordering.py::test_a_stream_never_shows_an_append_in_part",
        f"{KIT}/cancellation.py::test_an_append_cancelled_at_any_point_is_there_whole_or_not_at_all",
    ),
    "positions are given before the commit, and a failed append burns some": (
        f"{KIT}/ordering.py::test_no_position_appears_behind_a_reader_that_has_passed_it",
        f"{KIT}/ordering.py::test_below_a_used_position_no_unused_one_is_filled_later",
        f"{STORES}::test_an_append_that_is_refused_burns_no_position",
    ),
    "a store that is called durable keeps everything in memory": (
        f"{STORES}::test_what_is_called_durable_is",
        f"{KIT}/crashes.py::test_what_was_acknowledged_survives_a_kill_in_the_middle_of_appends",
    ),
    "a conflict kills the actor": (
        f"{HERE}::test_a_conflict_is_no_crash",
        f"{RUNTIME}/test_conflicts.py::test_a_command_that_met_a_conflict_is_decided_again_on_what_the_other_left",
    ),
    "rehydration blocks whoever starts actors, and any number of them may rehydrate at once": (
        f"{HERE}::test_a_long_rehydration_holds_up_no_other_aggregate",
        f"{RUNTIME}/test_limits.py::test_so_many_actors_are_rehydrated_at_the_same_time_and_the_others_wait",
        f"{RUNTIME}/test_limits.py::test_an_actor_that_is_ready_needs_no_permit",
    ),
    "events do not tell which command they came of, and snapshots not of which shape they are": (
        f"{HERE}::test_events_tell_where_they_came_from_and_snapshots_of_which_shape_they_are",
        f"{RUNTIME}/test_snapshots.py::test_a_raised_schema_is_another_state",
    ),
    "one event that cannot be handled stops everything behind it for good, and silently": (
        f"{HERE}::test_one_event_that_cannot_be_folded_stops_its_stream_only_and_says_so",
        f"{RUNTIME}/test_quarantine.py::test_a_stream_that_can_be_read_again_comes_back_by_itself",
    ),
}

TRAPS: Final[dict[str, tuple[str, ...]]] = {
    "a lock for each id that leaks, or two locks for one": (
        f"{RUNTIME}/test_limits.py::test_commands_for_one_aggregate_cause_one_recovery",
        f"{HERE}::test_nothing_is_left_of_actors_that_were_unloaded",
    ),
    "an await between reading the state and appending": (
        f"{HERE}::test_no_two_commands_are_decided_on_the_same_state",
        f"{RUNTIME}/test_reentry.py::test_a_command_to_itself_is_decided_after_the_one_that_is_being_decided",
    ),
    "a limit on waiting that cancels the append": (
        f"{RUNTIME}/test_deadlines.py::test_a_wait_with_a_limit_of_the_caller_does_not_stop_the_append",
    ),
    "a task that nobody holds is collected in the middle of its work": (
        f"{RUNTIME}/test_shutdown.py::test_work_in_the_background_survives_a_garbage_collection",
    ),
    "queues without bound, a timer for each message, timers that nobody cancels": (
        f"{RUNTIME}/test_limits.py::test_one_more_than_the_mailbox_holds_is_refused_and_the_others_are_run",
        f"{RUNTIME}/test_passivation.py::test_timers_do_not_grow_with_actors",
        f"{RUNTIME}/test_passivation.py::test_there_is_one_sweep_however_many_actors_start_while_it_looks",
        f"{RUNTIME}/test_deadlines.py::test_one_sweep_watches_all_deadlines",
        f"{RUNTIME}/test_deadlines.py::test_a_deadline_that_was_met_leaves_no_timer_behind",
    ),
    "a number from a sequence taken for the order of commits": (
        f"{KIT}/ordering.py::test_no_position_of_another_opened_store_appears_behind_a_reader",
        f"{KIT}/processes.py::test_no_position_of_another_process_appears_behind_a_reader",
    ),
    "a notification taken for the delivery": (
        f"{KIT}/log.py::test_an_append_while_somebody_begins_to_wait_is_never_missed",
        f"{KIT}/log.py::test_waiting_returns_at_once_where_there_is_more",
    ),
    "a checkpoint that is saved before the effect": (
        f"{STORES}::test_a_checkpoint_is_saved_with_its_views_or_not_at_all",
    ),
    "pickled events, and types named by where their class is defined": (
        f"{HERE}::test_nothing_is_pickled",
        f"{HERE}::test_the_stored_name_of_a_type_says_nothing_of_its_module",
    ),
    "types that a round trip through JSON changes": (
        "tests/codec/test_round_trip.py::test_a_generated_event_comes_back_as_it_was",
        "tests/codec/test_values.py::test_nothing_is_stored_silently_different",
    ),
    "state that is changed in place by a command which is refused, or half of it when `evolve` fails": (
        f"{HERE}::test_a_command_that_fails_halfway_leaves_the_state_as_it_was",
        f"{HERE}::test_what_a_caller_gets_is_not_what_the_actor_goes_on_with",
        f"{RUNTIME}/test_snapshots.py::test_a_snapshot_shows_the_state_at_its_version_whatever_came_before_it_was_saved",
    ),
    "a hash, an order or a name that differs between processes": (
        "tests/codec/test_json.py::test_digests_and_fingerprints_are_the_same_in_every_process",
    ),
    "a wall clock for time-outs": (
        f"{RUNTIME}/test_deadlines.py::test_a_correction_of_the_clock_of_the_machine_expires_nothing",
        f"{HERE}::test_a_correction_of_the_clock_of_the_machine_unloads_nothing",
    ),
    "a fork after connections were opened": (
        f"{RUNTIME}/test_sync.py::test_a_forked_child_takes_nothing_and_the_parent_goes_on",
        f"{RUNTIME}/test_sync.py::test_a_runtime_of_the_parent_answers_nothing_in_a_forked_child",
        f"{KIT}/lifecycle.py::test_in_a_forked_child_the_store_is_closed_and_the_parent_goes_on",
    ),
    "a registry of actors in each of several worker processes, each taken for the only one": (
        f"{RUNTIME}/test_fence.py::test_a_rejection_is_not_decided_on_a_state_that_another_writer_has_overtaken",
        f"{RUNTIME}/test_fence.py::test_two_runtimes_in_turns_answer_as_one_account_would",
    ),
    "one long fold that stops every other actor": (
        f"{RUNTIME}/test_fairness.py::test_a_long_stream_is_folded_in_slices",
    ),
    "a cancellation that is swallowed, or that waits in a cleanup": (
        f"{RUNTIME}/test_deadlines.py::test_a_caller_that_is_cancelled_during_the_append_cancels_its_wait_only",
        f"{RUNTIME}/test_shutdown.py::test_a_close_that_is_cancelled_answers_everybody_at_once",
        f"{KIT}/cancellation.py::test_a_call_cancelled_at_any_point_leaves_the_store_usable",
    ),
    "names that a file system folds together": (
        f"{KIT}/ids.py::test_snapshots_checkpoints_and_views_of_names_that_look_alike_are_different",
    ),
    "a snapshot before the append is durable, or one whose failure fails the command": (
        f"{RUNTIME}/test_snapshots.py::test_a_snapshot_is_only_taken_of_what_is_durable",
        f"{RUNTIME}/test_snapshots.py::test_a_snapshot_that_cannot_be_saved_is_a_warning",
    ),
    "a registry that importing fills": (f"{HERE}::test_two_apps_with_aggregates_of_one_name_do_not_meet",),
    "a retry without an id after a time-out": (
        f"{RUNTIME}/test_unknown_outcomes.py::test_a_retry_with_the_id_of_the_error_is_answered_with_the_first_result",
    ),
    "an actor unloaded with work in its mailbox, and two of one id alive": (
        f"{RUNTIME}/test_passivation.py::test_an_actor_with_a_command_under_way_is_not_unloaded",
        f"{RUNTIME}/test_passivation.py::test_no_command_is_lost_however_it_meets_the_unloading",
    ),
    "tests on a store in memory only": (
        "tests/store/test_mutants.py::test_mutants_of_the_store_on_sqlite_break_the_laws_meant",
        f"{RUNTIME}/test_fence.py::test_two_runtimes_in_turns_answer_as_one_account_would",
        f"{RUNTIME}/test_idempotency.py::test_two_runtimes_that_are_sent_the_same_commands_store_each_once",
    ),
    "an event loop for each call of a program without one": (
        f"{RUNTIME}/test_sync.py::test_all_calls_run_on_one_thread_that_ends_with_the_bank",
    ),
    "errors kept for callers that have gone, and frames that keep whole actors": (
        f"{RUNTIME}/test_what_is_kept.py::test_an_error_that_its_caller_keeps_does_not_keep_the_actor",
        f"{RUNTIME}/test_what_is_kept.py::test_a_caller_that_has_gone_leaves_no_error_behind",
        f"{RUNTIME}/test_what_is_kept.py::test_an_answer_leaves_nothing_that_only_a_collector_finds",
    ),
    "a loop that is closed while appends run, and mailboxes that are dropped": (
        f"{RUNTIME}/test_shutdown.py::test_what_was_accepted_is_finished",
        f"{RUNTIME}/test_shutdown.py::test_when_its_time_is_over_everybody_is_told_what_is_true_by_then",
        f"{RUNTIME}/test_sync.py::test_whoever_still_waits_when_the_portal_is_left_is_told",
    ),
}


@pytest.mark.parametrize("what", [*DEFECTS, *TRAPS])
def test_every_test_that_is_named_here_is_there(what: str) -> None:
    for reference in {**DEFECTS, **TRAPS}[what]:
        path, _, name = reference.partition("::")
        assert re.search(rf"^ *(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), (
            reference
        )


# ---- one aggregate does not hold up another


@pytest.mark.parametrize("method", ["replay", "submit", "ends"])
async def test_a_slow_command_holds_up_no_other_aggregate(method: str) -> None:
    async with staged(SHARED) as stage:
        if method != "replay":
            await stage.bank.dispatch(account, "ada", Deposit(1))
        await stage.bank.dispatch(account, "bob", Deposit(1))
        stage.script.add(method, Hang())
        slow = stage.bank.dispatch_nowait(account, "ada", Withdraw(9) if method == "ends" else Deposit(1))
        await settle()
        for version in (2, 3, 4):
            assert (await stage.bank.dispatch(account, "bob", Deposit(1))).version == version
        assert (await stage.bank.dispatch(account, "eve", Deposit(1))).version == 1
        assert not slow.done()
        stage.store.release()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_long_rehydration_holds_up_no_other_aggregate() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "bob", Deposit(1))
        events = [NewEvent(f"e{number}", "Deposited", b'{"amount":1}') for number in range(4_000)]
        await bank.store.append("bank_account-ada", events, expected_version=0)
        long = asyncio.create_task(bank.state(account, "ada"))
        meanwhile = 0
        while not long.done():
            await bank.dispatch(account, "bob", Deposit(1))
            meanwhile += 1
            assert meanwhile < 100_000
        assert meanwhile > 4
        assert await long == Account(4_000, 4_000)


async def test_after_a_time_out_the_truth_is_told_and_the_aggregate_can_be_used() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Delay(3))
        with pytest.raises(OutcomeUnknownError) as unknown:
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(5), timeout=1))
        with pytest.raises(CommandTimeoutError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(100), timeout=0.5))
        repeat = stage.bank.dispatch(account, "ada", Deposit(5), command_id=unknown.value.command_id)
        assert (await stage.in_time(repeat)).version == 2
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 3
        assert await stage.bank.state(account, "ada") == Account(7, 3)
        assert stage.bank.statistics().live == 1


# ---- names


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_aggregates_whose_ids_look_alike_are_different_aggregates(kind: str, tmp_path: Path) -> None:
    savings: Aggregate[Account, Command, Event] = Aggregate(
        name="savings.bank_account",
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
    )
    both = App(aggregates=[account, savings])
    ids = [
        "1",
        "a/b",
        "a:b",
        "a_b",
        "A/B",
        "a-b",
        "-1",
        "*",
        "%",
        "a\\b",
        " 1",
        "1 ",
        "é",
        "e\u0301",
        "../1",
        "a\nb",
    ]
    async with both.open("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/bank.db") as bank:
        for number, id in enumerate(ids):
            await bank.dispatch(account, id, Deposit(number + 1))
            await bank.dispatch(savings, id, Deposit(100 * (number + 1)))
        for number, id in enumerate(ids):
            assert await bank.state(account, id) == Account(number + 1, 1)
            assert await bank.state(savings, id) == Account(100 * (number + 1), 1)


# ---- one writer after the other


async def test_a_conflict_is_no_crash() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        for number in range(10):
            await stage.bank.dispatch(account, "ada", Deposit(1))
            await there.dispatch(account, "ada", Deposit(1))
            assert stage.bank.statistics().live == 1
            assert (await stage.bank.state(account, "ada")).changes == 2 * number + 2
        assert stage.bank.statistics().rehydrated == 1
        assert stage.bank.statistics().failed == 0


@pytest.mark.parametrize("kind", ["memory", "shared", "sqlite"])
async def test_no_two_commands_are_decided_on_the_same_state(kind: str, tmp_path: Path) -> None:
    urls = {"memory": "memory://", "shared": SHARED, "sqlite": f"sqlite:///{tmp_path}/bank.db"}
    async with app.open(urls[kind]) as bank:
        await bank.dispatch(account, "ada", Deposit(100))
        refused = 0

        async def caller(seed: int) -> int:
            nonlocal refused
            draw, taken = random.Random(seed), 0
            for _ in range(10):
                amount = draw.randrange(1, 9)
                try:
                    await bank.dispatch(account, "ada", Withdraw(amount))
                except InsufficientFunds:
                    refused += 1
                else:
                    taken += amount
            return taken

        taken = sum(await asyncio.gather(*(caller(seed) for seed in range(20))))
        assert (await bank.state(account, "ada")).balance == 100 - taken
        assert refused > 0


async def test_nothing_is_left_of_actors_that_were_unloaded() -> None:
    brief = bank_account(passivate_after=1)
    async with staged(of=App(aggregates=[brief])) as stage:
        for number in range(200):
            stage.bank.dispatch_nowait(brief, f"client-{number}", Deposit(1))
        await stage.clock.advance(10)
        counts = stage.bank.statistics()
        assert (counts.live, counts.busy, counts.recovering, counts.mailbox_depth) == (0, 0, 0, 0)
        assert (counts.rehydrated, counts.passivated) == (200, 200)
        assert stage.clock.timers == 0


# ---- what is stored


async def test_events_tell_where_they_came_from_and_snapshots_of_which_shape_they_are() -> None:
    saving = bank_account(snapshot=Snapshot(every=1, schema=7))
    async with staged(SHARED, of=App(aggregates=[saving])) as stage:
        await stage.bank.dispatch(
            saving, "ada", Split(2, 2), command_id="once", correlation_id="talk", causation_id="before"
        )
        await settle()
        async for event in stage.bank.events(saving, "ada"):
            told = event.metadata
            assert (told.command_id, told.correlation_id, told.causation_id) == ("once", "talk", "before")
        snapshot = await stage.store.load_snapshot("bank_account-ada")
        assert snapshot is not None
        assert snapshot.schema == 7
        assert snapshot.fingerprint


async def test_one_event_that_cannot_be_folded_stops_its_stream_only_and_says_so() -> None:
    async with staged(SHARED) as stage:
        await stage.store.append("bank_account-ada", [NewEvent("1", "Odd", b"{}")], expected_version=0)
        for _ in range(3):
            with pytest.raises(StreamQuarantinedError, match="Odd"):
                await stage.bank.dispatch(account, "ada", Deposit(1))
            assert isinstance(await stage.bank.dispatch(account, "bob", Deposit(1)), CommandResult)
            await stage.clock.advance(100)
        assert stage.store.calls["replay"] == 3 + 1


def test_nothing_is_pickled() -> None:
    words = re.compile(
        r"^\s*(import|from)\s+(pickle|cPickle|marshal|shelve|dill|cloudpickle)\b", re.MULTILINE
    )
    assert [path for path in (ROOT / "src").rglob("*.py") if words.search(path.read_text("utf-8"))] == []


async def test_the_stored_name_of_a_type_says_nothing_of_its_module() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        (event,) = (await bank.store.read_stream("bank_account-ada")).events
        assert (event.type, event.data) == ("Deposited", b'{"amount":1}')
        assert b"tests" not in event.metadata


# ---- what is kept in memory


async def test_a_command_that_fails_halfway_leaves_the_state_as_it_was() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        before = await stage.bank.state(account, "ada")
        for command in (Crash("evolve"), Withdraw(50), Split(9_000, 9_000)):
            with pytest.raises(Exception, match=r"a bug in evolve|insufficient funds|events in one append"):
                await stage.bank.dispatch(account, "ada", command)
        stage.script.add("submit", Refuse())
        with pytest.raises(Exception, match="as planned"):
            await stage.bank.dispatch(account, "ada", Deposit(50))
        assert await stage.bank.state(account, "ada") is before
        assert before == Account(1, 1)


async def test_what_a_caller_gets_is_not_what_the_actor_goes_on_with() -> None:
    async with app.open("memory://") as bank:
        first = await bank.dispatch(account, "ada", Deposit(1), command_id="once")
        again = await bank.dispatch(account, "ada", Deposit(1), command_id="once")
        assert again == first
        assert again.events[0] is not first.events[0]


async def test_a_correction_of_the_clock_of_the_machine_unloads_nothing() -> None:
    brief = bank_account(passivate_after=5)
    async with staged(of=App(aggregates=[brief])) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(1))
        stage.clock.set_wall(4_000_000_000_000_000)
        await stage.clock.advance(1)
        assert stage.bank.statistics().live == 1


async def test_two_apps_with_aggregates_of_one_name_do_not_meet() -> None:
    stingy: Aggregate[Account, Command, Event] = Aggregate(
        name="bank_account",
        initial=Account(balance=-1_000),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
    )
    async with app.open("memory://") as bank, App(aggregates=[stingy]).open("memory://") as other:
        await bank.dispatch(account, "ada", Deposit(10))
        await other.dispatch(stingy, "ada", Deposit(10))
        assert await bank.state(account, "ada") == Account(10, 1)
        assert await other.state(stingy, "ada") == Account(-990, 1)
