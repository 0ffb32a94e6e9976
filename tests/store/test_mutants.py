"""The laws notice mistakes: a store with one of them breaks the law that is meant, and few others."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rehydrate.testing.plugin import NATS_URL, POSTGRES_URL
from rehydrate.testing.servers import NatsServer, PostgresServer

HERE = Path(__file__).parent

# ---- laws, by the name of their test

BEHIND_A_READER = "no_position_appears_behind_a_reader_that_has_passed_it"
BEHIND_A_READER_OF_ANOTHER = "no_position_of_another_opened_store_appears_behind_a_reader"
WAITING_READER = "a_reader_that_waits_at_the_end_of_the_log_sees_everything"
WAITING_READER_OF_ANOTHER = "a_reader_that_waits_sees_everything_of_other_opened_stores"
EVERYTHING_AT_ONCE = "a_store_does_everything_at_once"
NO_HOLE = "below_a_used_position_no_unused_one_is_filled_later"
STREAM_WHOLE = "a_stream_never_shows_an_append_in_part"
HEAD_WHOLE = "the_head_and_the_versions_never_show_an_append_in_part_or_go_back"
CANCELLED_WHOLE = "an_append_cancelled_at_any_point_is_there_whole_or_not_at_all"
CANCELLED_AMONG_MANY = "cancelling_some_of_many_appends_leaves_the_others_alone"
ANSWERED_AT_CLOSING = "every_append_under_way_is_answered_when_the_store_is_closed"
OWN_OUTCOME = "of_many_concurrent_appends_each_gets_its_own_outcome"
ONE_WINS = "of_concurrent_appends_at_one_version_exactly_one_succeeds"
ONE_OF_SEVERAL_WINS = "of_appends_at_one_version_from_several_opened_stores_exactly_one_succeeds"
CONFLICT = "a_wrong_expectation_is_a_conflict_and_stores_nothing"
CONFLICT_WITH_ANOTHER = "a_wrong_expectation_is_a_conflict_also_where_another_opened_store_appended"
CONFLICT_OF_EMPTY = "a_version_expected_of_an_empty_stream_is_a_conflict"
CONFLICT_STAYS = "a_conflict_stays_one_when_it_is_sent_again"
GOES_ON = "a_store_goes_on_after_a_conflict"
WAITER = "a_waiter_hears_once_how_its_append_ended_and_never_from_within_submit"
ANY_VERSION = "concurrent_appends_at_whatever_version_all_succeed"
SENT_AGAIN = "an_append_sent_again_returns_its_first_result"
SENT_AGAIN_BEHIND = "an_append_sent_again_returns_its_first_result_with_others_behind_it"
SENT_AGAIN_LARGE = "an_append_of_many_events_sent_again_returns_its_first_result"
SENT_AGAIN_BY_ANOTHER = "an_append_sent_again_by_another_opened_store_returns_its_first_result"
SENT_AGAIN_REOPENED = "an_append_sent_again_after_reopening_returns_its_first_result"
SENT_AT_ONCE = "an_append_sent_many_times_at_once_is_stored_once"
SENT_AT_ONCE_BY_SEVERAL = "an_append_sent_at_once_by_several_opened_stores_is_stored_once"
SENT_FIRST = "what_is_stored_of_an_append_sent_again_is_what_was_sent_first"
PARTLY_DIFFERENT = "a_partly_different_append_is_a_conflict"
TOLD_APART = "a_repeat_and_a_stranger_at_one_version_are_told_apart"
REPEATS_AMONG_OTHERS = "repeats_among_other_appends_disturb_nobody"
RESTORED_CONFLICT = "after_a_restore_an_append_above_the_head_is_a_conflict_with_the_true_version"
RESTORED_LOST = "after_a_restore_an_append_that_was_lost_is_stored_when_it_is_sent_again"
RESTORED_UNDER_APPENDS = "a_restore_under_appends_leaves_each_whole_or_not_there"
OLDER_SNAPSHOT = "an_older_snapshot_never_replaces_a_newer"
SNAPSHOTS_AT_ONCE = "of_snapshots_saved_at_once_the_newest_wins"
SNAPSHOTS_OF_SEVERAL = "of_snapshots_saved_through_several_opened_stores_the_newest_wins"
SNAPSHOT_REOPENED = "a_snapshot_survives_reopening"
CONSUMER_OVERTAKEN = "whoever_last_saw_another_place_or_epoch_saves_nothing"
CONSUMER_TAKES_OVER = "whoever_takes_over_raises_the_epoch_and_the_other_stops"
CHECKPOINT_FORWARD = "a_checkpoint_never_moves_back"
KILLED_WRITER = "what_was_acknowledged_survives_a_kill_in_the_middle_of_appends"
KILLED_WRITER_SENT_AGAIN = "what_a_killed_writer_left_unanswered_is_stored_once_when_it_is_sent_again"
KILLED_WRITER_STALLS = "a_killed_writer_stalls_neither_readers_nor_writers"
KILLED_CONSUMER = "a_checkpoint_and_its_views_survive_a_kill_as_one"
STOPPED_WRITER = "a_stopped_writer_that_holds_the_lock_stalls_no_reader_and_writers_recover_when_it"
BEHIND_A_READER_OF_PROCESSES = "no_position_of_another_process_appears_behind_a_reader"

ANOTHER_HISTORY = "an_append_that_names_the_event_before_it_is_stored_behind_just_that_event"
RESTORED_ANOTHER_HISTORY = "after_a_restore_another_history_of_the_same_length_is_told_apart"
SEALED_BY_ANOTHER = "a_store_that_is_sealed_by_another_opening_takes_no_more_appends"
STORED_BEFORE_THE_SEAL = "an_append_that_was_stored_before_the_seal_still_returns_its_first_result"
SEALED_UNDER_APPENDS = "of_appends_under_way_each_is_acknowledged_and_there_or_refused_and_not"

_REPEATS = {
    *(SENT_AGAIN, SENT_AGAIN_BEHIND, SENT_AGAIN_LARGE, SENT_AGAIN_BY_ANOTHER, SENT_AT_ONCE, SENT_FIRST),
    *(SENT_AT_ONCE_BY_SEVERAL, REPEATS_AMONG_OTHERS, TOLD_APART),
}
IN_ONE_TURN = "appends_that_are_submitted_in_one_turn_stand_in_the_log_in_that_order"
WRONG_AND_SEALED = "a_wrong_expectation_of_a_sealed_store_is_refused_for_the_seal"
_WITH_A_CONFLICT = {WRONG_AND_SEALED, IN_ONE_TURN}
"""Other laws in which an append is to be a conflict."""
_OF_SEALING = {
    *("a_sealed_store_takes_no_more_appends", SEALED_BY_ANOTHER, WRONG_AND_SEALED),
    "sealing_twice_is_fine_and_an_empty_store_can_be_sealed",
}
_STALE = {
    *(CONFLICT, CONFLICT_OF_EMPTY, CONFLICT_WITH_ANOTHER, CONFLICT_STAYS, GOES_ON, OWN_OUTCOME, WAITER),
    *(TOLD_APART, NO_HOLE, REPEATS_AMONG_OTHERS),
}
_LOST_HALF = {BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER, OWN_OUTCOME, HEAD_WHOLE}

Laws = set[str]
ON_MEMORY: dict[str, tuple[Laws, Laws]] = {
    # A mutant: the laws that it has to break, and those that it may break besides.
    "PositionsBeforeCommit": (
        {BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER, WAITING_READER, WAITING_READER_OF_ANOTHER},
        {SEALED_UNDER_APPENDS},
    ),
    "HalvesApart": (
        {STREAM_WHOLE, HEAD_WHOLE, CANCELLED_WHOLE, BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER},
        {WAITING_READER, WAITING_READER_OF_ANOTHER, SEALED_UNDER_APPENDS},
    ),
    "SecondHalfLost": (
        _LOST_HALF | {NO_HOLE, CANCELLED_AMONG_MANY, ANY_VERSION},
        {EVERYTHING_AT_ONCE, SEALED_UNDER_APPENDS},
    ),
    "StaleVersionAccepted": (_STALE, _WITH_A_CONFLICT),
    "HeadsNotRefreshed": ({CONFLICT_WITH_ANOTHER, RESTORED_CONFLICT}, set()),
    "RepeatStoredTwice": (
        _REPEATS | {CANCELLED_WHOLE, RESTORED_LOST},
        {"types_and_event_ids_come_back_as_given", STORED_BEFORE_THE_SEAL, ANOTHER_HISTORY},
    ),
    "RepeatKnownAtTheEndOnly": (
        {SENT_AGAIN_BEHIND, SENT_AGAIN_LARGE, SENT_AGAIN_BY_ANOTHER},
        {STORED_BEFORE_THE_SEAL},
    ),
    "RepeatKnownByItsFirstEvent": ({PARTLY_DIFFERENT}, set()),
    "SnapshotGoesBack": ({OLDER_SNAPSHOT, SNAPSHOTS_AT_ONCE, SNAPSHOTS_OF_SEVERAL}, set()),
    "CheckpointWithoutEpoch": ({CONSUMER_OVERTAKEN, CONSUMER_TAKES_OVER, CHECKPOINT_FORWARD}, set()),
    "ViewsBesideTheCheckpoint": (
        {
            *(CONSUMER_OVERTAKEN, CHECKPOINT_FORWARD),
            "a_reset_leads_back_to_the_beginning_and_stops_whoever_runs",
            "of_consumers_on_several_opened_stores_that_save_at_once_exactly_one_wins",
            "of_consumers_that_save_at_once_exactly_one_wins",
            "whoever_saw_a_checkpoint_that_was_removed_saves_nothing",
        },
        {"a_view_with_a_bad_key_is_refused_and_nothing_is_saved"},
    ),
    "FilteredReaderStandsStill": (
        {
            "a_filtered_reader_moves_past_what_does_not_match",
            "a_page_says_that_it_is_the_last_only_where_the_log_ends",
        },
        set(),
    ),
    "LeavesOutByTypeAlone": ({"a_filter_hands_out_what_matches_and_nothing_else"}, set()),
    "AnotherHistoryAccepted": ({ANOTHER_HISTORY, RESTORED_ANOTHER_HISTORY}, set()),
    "SealsOnlyItself": ({SEALED_BY_ANOTHER, SEALED_UNDER_APPENDS}, set()),
    "SealForgetsRepeats": (
        {"an_append_that_was_stored_before_the_seal_still_returns_its_first_result"},
        set(),
    ),
    "LastPageTooEarly": (
        {
            "a_limit_of_nothing_is_refused_or_answered_with_nothing",
            "a_page_says_that_it_is_the_last_only_where_the_stream_ends",
            "reading_a_stream_in_pages_equals_reading_it_at_once",
            SENT_AGAIN_LARGE,
        },
        set(),
    ),
    "NegativeLimitMeansAll": ({"a_limit_of_nothing_is_refused_or_answered_with_nothing"}, set()),
    "WakeMissed": (
        {
            "an_append_while_somebody_begins_to_wait_is_never_missed",
            "waiting_cancelled_at_any_point_leaves_others_waiting_and_woken",
        },
        set(),
    ),
    "CancelledHalfWay": (
        {CANCELLED_WHOLE, CANCELLED_AMONG_MANY, BEHIND_A_READER, HEAD_WHOLE, ONE_WINS},
        {
            *(RESTORED_UNDER_APPENDS, BEHIND_A_READER_OF_ANOTHER, ONE_OF_SEVERAL_WINS, SEALED_UNDER_APPENDS),
            "an_event_with_a_bad_id_or_type_is_refused_and_nothing_is_stored",
            "too_many_bytes_are_refused_and_nothing_is_stored",
            "a_time_that_no_store_takes_is_refused_and_nothing_is_stored",
        },
    ),
    "ReadableAfterClosing": (
        {"after_closing_every_call_is_refused"},
        {"in_a_forked_child_the_store_is_closed_and_the_parent_goes_on"},
    ),
}
ON_SQLITE: dict[str, tuple[Laws, Laws]] = {
    "PositionsBeforeCommit": (
        {BEHIND_A_READER_OF_ANOTHER},
        {WAITING_READER_OF_ANOTHER, STORED_BEFORE_THE_SEAL, SEALED_UNDER_APPENDS, *_OF_SEALING},
    ),
    "HalvesApart": (
        {BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER},
        {
            *(STREAM_WHOLE, HEAD_WHOLE, PARTLY_DIFFERENT, ONE_OF_SEVERAL_WINS, TOLD_APART),
            *(CANCELLED_WHOLE, CANCELLED_AMONG_MANY, ANSWERED_AT_CLOSING, RESTORED_UNDER_APPENDS),
            SEALED_UNDER_APPENDS,
        },
    ),
    "SecondHalfLost": (
        _LOST_HALF,
        {NO_HOLE, CANCELLED_AMONG_MANY, ANSWERED_AT_CLOSING, RESTORED_UNDER_APPENDS, SEALED_UNDER_APPENDS},
    ),
    "StaleVersionAccepted": (
        _STALE,
        {SENT_FIRST, CANCELLED_WHOLE, ANOTHER_HISTORY, STORED_BEFORE_THE_SEAL, *_WITH_A_CONFLICT},
    ),
    "HeadsNotRefreshed": (
        {CONFLICT_WITH_ANOTHER},
        {ONE_OF_SEVERAL_WINS, RESTORED_CONFLICT, TOLD_APART, STORED_BEFORE_THE_SEAL},
    ),
    "RepeatStoredTwice": (
        _REPEATS | {SENT_AGAIN_REOPENED},
        {
            *(CANCELLED_WHOLE, RESTORED_LOST, ANOTHER_HISTORY, STORED_BEFORE_THE_SEAL),
            "types_and_event_ids_come_back_as_given",
        },
    ),
    "GroupRefusedTogether": (
        {OWN_OUTCOME, NO_HOLE, WAITER},
        {
            *(BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER, HEAD_WHOLE, REPEATS_AMONG_OTHERS),
            *(WAITING_READER, WAITING_READER_OF_ANOTHER, EVERYTHING_AT_ONCE),
            *(ANOTHER_HISTORY, RESTORED_ANOTHER_HISTORY, IN_ONE_TURN),
        },
    ),
    "AcknowledgedBeforeCommit": (
        {OWN_OUTCOME},
        {
            *(BEHIND_A_READER, BEHIND_A_READER_OF_ANOTHER, NO_HOLE, HEAD_WHOLE, WAITER),
            *(CANCELLED_AMONG_MANY, REPEATS_AMONG_OTHERS, RESTORED_UNDER_APPENDS, EVERYTHING_AT_ONCE),
            *(WAITING_READER, WAITING_READER_OF_ANOTHER, SEALED_UNDER_APPENDS, IN_ONE_TURN),
            "more_appends_than_fit_into_one_commit_are_all_stored",
        },
    ),
    "SnapshotGoesBack": (
        {OLDER_SNAPSHOT, SNAPSHOTS_OF_SEVERAL, SNAPSHOT_REOPENED},
        {SNAPSHOTS_AT_ONCE},
    ),
    "ViewsBesideTheCheckpoint": (
        set(),
        {
            "of_consumers_on_several_opened_stores_that_save_at_once_exactly_one_wins",
            "of_consumers_that_save_at_once_exactly_one_wins",
            "a_view_with_a_bad_key_is_refused_and_nothing_is_saved",
        },
    ),
}
OF_PROCESSES: dict[str, tuple[Laws, Laws]] = {
    "PositionsBeforeCommit": ({BEHIND_A_READER_OF_PROCESSES}, {KILLED_WRITER_STALLS}),
    "HalvesApart": (
        {KILLED_WRITER, BEHIND_A_READER_OF_PROCESSES},
        {KILLED_WRITER_SENT_AGAIN, KILLED_WRITER_STALLS, STOPPED_WRITER},
    ),
    "AcknowledgedBeforeCommit": (
        {KILLED_WRITER},
        {KILLED_WRITER_SENT_AGAIN, KILLED_WRITER_STALLS, STOPPED_WRITER, BEHIND_A_READER_OF_PROCESSES},
    ),
    "ViewsBesideTheCheckpoint": (
        {KILLED_CONSUMER},
        {"of_consumers_in_several_processes_each_place_is_saved_by_one"},
    ),
}
NAMED_ON_SQLITE = {
    mutant: ON_SQLITE[mutant]
    for mutant in (
        *("PositionsBeforeCommit", "SecondHalfLost", "HalvesApart", "StaleVersionAccepted"),
        *("RepeatStoredTwice", "SnapshotGoesBack"),
    )
}
"""The gravest."""

RESTORED_POSITIONS = "after_a_restore_positions_go_on_from_the_head"
_SENT_AGAIN = {SENT_AGAIN, SENT_AGAIN_BEHIND, SENT_AGAIN_BY_ANOTHER}
_SEALED = {"a_sealed_store_takes_no_more_appends", SEALED_BY_ANOTHER}
SAID_TO_BE = "where_the_event_before_an_append_is_said_to_be_changes_nothing"
ON_POSTGRES: dict[str, tuple[Laws, Laws]] = {
    "LastEventNotNamed": ({RESTORED_POSITIONS}, set()),
    "VersionAboveNotLookedFor": ({CONFLICT}, {CONFLICT_WITH_ANOTHER, *_SEALED}),
    "EventElsewhereBelieved": ({SAID_TO_BE}, set()),
    "StreamElsewhereBelieved": ({SAID_TO_BE}, set()),
    "VersionElsewhereBelieved": ({SAID_TO_BE}, set()),
    "FirstEventCommittedAlone": (
        {STREAM_WHOLE, HEAD_WHOLE},
        {CONFLICT, PARTLY_DIFFERENT, RESTORED_POSITIONS, *_SENT_AGAIN},
    ),
    "RepeatNotRecognised": (_SENT_AGAIN, set()),
    "RepeatKnownByItsLastEvent": ({PARTLY_DIFFERENT}, set()),
    "SealsNothing": (_SEALED, set()),
    "CheckpointWithoutEpoch": ({CONSUMER_OVERTAKEN}, set()),
}
"""Each makes one mistake in a procedure of the database."""

ONE_CONSUMER_WINS = "of_consumers_that_save_at_once_exactly_one_wins"
ON_NATS: dict[str, tuple[Laws, Laws]] = {
    "AppendsExpectNothing": ({ONE_OF_SEVERAL_WINS, SENT_AT_ONCE_BY_SEVERAL}, set()),
    "RepeatSoughtAtTheEnd": ({SENT_AGAIN_BEHIND}, set()),
    "LastEventNotCompared": (
        {"an_append_that_names_the_event_before_it_is_stored_behind_just_that_event"},
        set(),
    ),
    "RestOfMessageSkipped": ({"reading_the_log_in_pages_equals_reading_it_at_once"}, set()),
    "SealsNothing": (_SEALED, set()),
    "ViewsBesideTheirPlace": ({ONE_CONSUMER_WINS}, set()),
    "PlaceExpectsNothing": ({ONE_CONSUMER_WINS}, set()),
}


class _Run:
    """The laws on mutants, in a process of their own: which mutant meets which laws, by default each all of them."""

    def __init__(
        self,
        meet: str,
        report: Path,
        met: Mapping[str, Iterable[str]] | None = None,
        *,
        marks: str = "not processes",
        server: Mapping[str, str] | None = None,
    ) -> None:
        self._report = report
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", str(HERE / "mutant_laws.py"), "-m", marks),
                *("-k", _chosen(met or {"": [""]})),
                *("--tb=no", "-q", f"--junitxml={report}", "-o", f"cache_dir={report.parent}"),
                # Many fail, and how exactly is of no interest.
                *("-p", "no:logging", "-p", "no:unraisableexception", "-p", "no:threadexception"),
            ],
            env={
                **os.environ,
                **(server or {}),
                "MUTANTS_MEET": meet,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            cwd=HERE.parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )

    def broken(self) -> dict[str, Laws]:
        """The laws that each mutant breaks."""
        told, _ = self._process.communicate()
        assert self._process.returncode == 1, f"some laws have to be broken:\n{told}"
        broken: defaultdict[str, Laws] = defaultdict(set)
        for case in ET.parse(self._report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                mutant = case.attrib["classname"].rpartition(".Test")[2]
                broken[mutant].add(case.attrib["name"].partition("[")[0].removeprefix("test_"))
        return broken

    def end(self) -> None:
        with self._process:  # Which waits, and closes what nobody has read.
            self._process.kill()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[_Run, _Run]]:
    """Both at the same time: the second waits for the disk most of its time."""
    reports = tmp_path_factory.mktemp("reports")
    on_memory = _Run("all laws on memory", reports / "memory.xml", _meant(ON_MEMORY))
    on_sqlite = _Run("all laws on SQLite", reports / "sqlite.xml", _meant(NAMED_ON_SQLITE))
    yield on_memory, on_sqlite
    on_memory.end()
    on_sqlite.end()


def test_mutants_of_the_store_in_memory_break_the_laws_meant(runs: tuple[_Run, _Run]) -> None:
    _assert_broken(runs[0].broken(), ON_MEMORY)


def test_mutants_of_the_store_on_sqlite_break_the_laws_meant(runs: tuple[_Run, _Run]) -> None:
    _assert_broken(runs[1].broken(), NAMED_ON_SQLITE)


def test_mutants_of_the_store_on_postgresql_break_the_laws_meant(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    server = {POSTGRES_URL: postgres_server.url}
    run = _Run("all laws on PostgreSQL", tmp_path / "report.xml", _meant(ON_POSTGRES), server=server)
    _assert_broken(run.broken(), ON_POSTGRES)


def test_mutants_of_the_store_in_nats_break_the_laws_meant(tmp_path: Path, nats_server: NatsServer) -> None:
    server = {NATS_URL: nats_server.url}
    run = _Run("all laws on NATS", tmp_path / "report.xml", _meant(ON_NATS), server=server)
    _assert_broken(run.broken(), ON_NATS)


# The laws that are meant are a fifth of these.
@pytest.mark.slow
def test_mutants_of_the_store_in_memory_break_few_of_all_laws(tmp_path: Path) -> None:
    _assert_broken(_Run("all laws on memory", tmp_path / "report.xml").broken(), ON_MEMORY)


@pytest.mark.slow
def test_mutants_of_the_store_on_sqlite_break_few_of_all_laws(tmp_path: Path) -> None:
    _assert_broken(_Run("all laws on SQLite", tmp_path / "report.xml").broken(), ON_SQLITE)


@pytest.mark.slow
def test_mutants_of_the_store_on_sqlite_break_the_laws_of_processes_meant(tmp_path: Path) -> None:
    met = {mutant: [""] for mutant in OF_PROCESSES}
    run = _Run("the laws of processes on SQLite", tmp_path / "report.xml", met, marks="processes")
    _assert_broken(run.broken(), OF_PROCESSES)


@pytest.mark.slow
def test_mutants_of_the_store_on_postgresql_keep_the_laws_meant_for_others(tmp_path: Path) -> None:
    met = _meant_for_any(ON_POSTGRES)
    _assert_broken(_Run("all laws on PostgreSQL", tmp_path / "report.xml", met).broken(), ON_POSTGRES)


@pytest.mark.slow
def test_mutants_of_the_store_in_nats_keep_the_laws_meant_for_others(tmp_path: Path) -> None:
    met = _meant_for_any(ON_NATS)
    _assert_broken(_Run("all laws on NATS", tmp_path / "report.xml", met).broken(), ON_NATS)


Expected = Mapping[str, tuple[Laws, Laws]]


def _meant(expected: Expected) -> dict[str, Laws]:
    """Each of these mutants meets the laws that it has to break."""
    return {mutant: meant for mutant, (meant, _) in expected.items()}


def _meant_for_any(expected: Expected) -> dict[str, Laws]:
    """Each of these laws meets each of the mutants: what one has to break, the others have to keep."""
    laws = {law for meant, _ in expected.values() for law in meant}
    return dict.fromkeys(expected, laws)


def _chosen(met: Mapping[str, Iterable[str]]) -> str:
    """What pytest is told with `-k`."""
    each = (
        f"(Test{mutant} and ({' or '.join(f'test_{law}' for law in laws)}))" for mutant, laws in met.items()
    )
    return " or ".join(each)


def _assert_broken(broken: dict[str, Laws], expected: Expected) -> None:
    missed = {mutant: meant - broken.get(mutant, set()) for mutant, (meant, _) in expected.items()}
    assert {mutant: laws for mutant, laws in missed.items() if laws} == {}, "not noticed"
    too_many = {mutant: laws - set().union(*expected[mutant]) for mutant, laws in broken.items()}
    assert {mutant: laws for mutant, laws in too_many.items() if laws} == {}, "broken besides"
