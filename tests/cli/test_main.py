"""What holds for every command: what it says when something is wrong, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rehydrate.cli.main import main
from tests.cli.terminal import BANK, ROOT, deposit, process, typed

COMMANDS = ("run", "streams", "events", "state", "verify", "migrate", "copy", "export", "import", "node")


def test_help_names_every_command_and_each_has_examples() -> None:
    ended = typed("--help")
    assert ended.code == 0
    for command in COMMANDS:
        assert f" {command} " in ended.stdout
        shown = typed(command, "--help")
        assert shown.code == 0
        assert f"rehydrate {command} " in shown.stdout.partition("Example")[2]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_no_types_of_python(command: str) -> None:
    shown = typed(*command.split(), "--help").stdout
    assert "--help" in shown
    for word in ("<bool>", "<str>", "<int", "BOOLEAN", "INTEGER"):
        assert word not in shown


def test_no_command_at_all_shows_the_help() -> None:
    ended = typed()
    assert "Usage: rehydrate" in ended.stdout + ended.stderr


def test_the_version_is_printed() -> None:
    ended = typed("--version")
    assert ended.code == 0
    assert ended.stdout.startswith("rehydrate ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", BANK),
        ("run", "tests.bank", "--store", "memory://"),
        ("run", ":app", "--store", "memory://"),
        ("run", BANK, "no-such-file.jsonl", "--store", "memory://"),
        ("run", BANK, "tests", "--store", "memory://"),
        ("run", BANK, "--concurrency", "0", "--store", "memory://"),
        ("streams",),
        ("streams", "--store", "memory://", "--limit", "0"),
        ("events", "--store", "memory://"),
        ("state", BANK, "bank_account", "--store", "memory://"),
        ("verify", "bank", "--store", "memory://"),
        ("copy", "memory://"),
        ("import", "memory://", "no-such-file.jsonl"),
        ("export",),
        ("fly",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert typed(*arguments).code == 2


def test_an_id_that_begins_with_a_dash_is_told_where_to_stand() -> None:
    ended = typed("state", BANK, "bank_account", "-1", "--store", "memory://")
    assert ended.code == 2
    assert "No such option: -1. If it is no option" in ended.stderr
    assert "-- -1" in ended.stderr
    ended = typed("state", BANK, "bank_account", "--store", "memory://", "--", "-1")
    assert ended.code == 0
    assert ended.answers[0]["id"] == "-1"


@pytest.mark.parametrize("arguments", [("streams", "-x"), ("state", BANK, "bank_account", "a", "--jsn")])
def test_an_option_that_can_be_no_argument_is_not_told_that(arguments: tuple[str, ...]) -> None:
    ended = typed(*arguments, "--store", "memory://")
    assert (ended.code, "If it is no option" in ended.stderr) == (2, False)


# ---- MODULE:APP


def test_a_module_that_is_not_there_is_one_sentence() -> None:
    ended = typed("run", "tests.banque:app", "--store", "memory://")
    assert ended.code == 1
    assert ended.stderr.startswith("rehydrate: there is no module 'tests.banque' in ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("written", ["tests/bank.py:app", "./tests/bank.py:app", "tests.bank.py:app"])
def test_a_file_in_the_place_of_a_module_is_answered_with_the_module(written: str) -> None:
    ended = typed("run", written, "--store", "memory://")
    assert ended.code == 1
    assert ended.stderr.rstrip().endswith("name the module, not its file: tests.bank")


def test_an_attribute_that_is_not_there_is_one_sentence_with_what_there_is() -> None:
    ended = typed("run", "tests.bank:application", "--store", "memory://")
    assert ended.code == 1
    assert (
        ended.stderr == "rehydrate: module 'tests.bank' has no 'application'; did you mean tests.bank:app?\n"
    )


def test_something_that_is_no_app_is_one_sentence() -> None:
    ended = typed("run", "tests.bank:account", "--store", "memory://")
    assert ended.code == 1
    assert ended.stderr == (
        "rehydrate: tests.bank:account is not an App but of class 'Aggregate'; did you mean tests.bank:app?\n"
    )


def test_the_current_directory_is_searched_first_and_an_error_in_the_module_shows_its_traceback(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.py").write_text("from tests_of_nothing import x\n")
    (tmp_path / "store.py").write_text("def build():\n    return 1 / 0\n\napp = build()\n")
    missing = process("run", "shop:app", "--store", "memory://", cwd=tmp_path)
    assert missing.code == 1
    assert "No module named 'tests_of_nothing'" in missing.stderr
    assert "shop.py" in missing.stderr
    broken = process("verify", "--store", "memory://", "store:app", cwd=tmp_path)
    assert broken.code == 1
    lines = broken.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "store.py" in lines[1]
    assert "ZeroDivisionError: division by zero" in lines
    assert lines[-1].startswith("rehydrate: module 'store' could not be imported")


# ---- errors


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("oracle://scott:tiger@host/db", "no store is known by oracle://"),
        ("bank.db", "no URL of a store"),
        ("sqlite:///{folder}/bank.db?cache=1", "there is no parameter 'cache'"),
        ("sqlite:///{folder}/no/bank.db", "there is no directory"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence_without_credentials(
    url: str, sentence: str, tmp_path: Path
) -> None:
    ended = typed("run", BANK, "--store", url.format(folder=tmp_path), stdin=deposit("ada", 1))
    assert (ended.code, ended.stdout) == (1, "")
    assert sentence in ended.stderr
    assert "tiger" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    ended = typed("streams", "--store", "oracle://", "--debug")
    assert ended.code == 1
    assert "Traceback" in ended.stderr
    assert "ConfigurationError" in ended.stderr


def test_the_store_may_be_named_by_the_environment(tmp_path: Path) -> None:
    process("run", BANK, stdin=deposit("ada", 1), REHYDRATE_STORE=f"sqlite:///{tmp_path}/bank.db")
    ended = process("streams", REHYDRATE_STORE=f"sqlite:///{tmp_path}/bank.db")
    assert ended.answers == [{"stream": "bank_account-ada", "version": 1}]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_there_is_one_sentence_with_the_line_for_pip(missing: str) -> None:
    hidden = (
        f"import sys; sys.modules['{missing}'] = None; from rehydrate.cli.main import main; main(['--help'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False, cwd=ROOT / "src"
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == f"rehydrate: the command line needs {missing}: pip install 'rehydrate[cli]'\n"


def test_main_ends_with_the_code_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["streams", "--store", "oracle://"])
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("rehydrate ")
