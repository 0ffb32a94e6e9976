"""The files of a repository as aggregates: `examples/demo.py` feeds them a history through `rehydrate run`."""

from __future__ import annotations

from examples.git_history.file import Command, Event, File, decide, evolve
from rehydrate import Aggregate, App

file = Aggregate(name="file", initial=File(), decide=decide, evolve=evolve, commands=Command, events=Event)

app = App(aggregates=[file])
