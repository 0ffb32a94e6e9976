"""What docs/nodes.md says in tables is what the code does."""

import inspect
import re

from rehydrate.cli.node_command import node as command
from rehydrate.cluster import Node
from tests.docs.pages import ROOT, table

PAGE = ROOT / "docs" / "nodes.md"


def test_each_parameter_and_each_option_of_a_node_is_on_the_page() -> None:
    rows = table(PAGE, "What a node is given")
    parameters = {row[0].strip("`") for row in rows}
    assert parameters == set(inspect.signature(Node).parameters)
    options = {
        option.lstrip("-").replace("-", "_") for row in rows for option in re.findall(r"--[\w-]+", row[1])
    }
    assert options == set(inspect.signature(command).parameters) - {"debug"}


def test_each_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text("utf-8"))
    assert len(named) > 15
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")]
    assert missing == []
