"""The laws on every mutant: run by `test_mutants.py` in a process of its own, for many of these tests have to fail.

Pytest does not find this file by itself. `MUTANTS_MEET` says which laws the mutants meet.
"""

import os
from types import ModuleType

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.conformance.crashes import CrashLaws
from rehydrate.testing.conformance.processes import ProcessLaws
from tests.store import (
    memory_mutants,
    nats_mutants,
    postgres_mutants,
    sqlite_mutants,
    test_memory,
    test_nats,
    test_postgres,
    test_sqlite,
)


class _LawsOfProcesses(ProcessLaws, CrashLaws):
    pass


def _make(module: ModuleType, mutant: type, *laws: type, patience: float = 1.0) -> None:
    for name, found in vars(module).items():
        is_one = isinstance(found, type) and issubclass(found, mutant) and found is not mutant
        if is_one and found.__module__ == module.__name__ and not name.startswith("_"):
            opener = f"{module.__name__}:{name}.open_mutant"
            globals()[f"Test{name}"] = type(
                f"Test{name}", laws, {"opener": opener, "patience": patience, "__module__": __name__}
            )


# In memory all is answered at once or never: a fraction of the time that a good store gets is plenty.
match os.environ["MUTANTS_MEET"]:
    case "all laws on memory":
        _make(
            memory_mutants, memory_mutants.Mutant, test_memory.OnSharedMemory, StoreConformance, patience=0.05
        )
    case "all laws on SQLite":
        _make(sqlite_mutants, sqlite_mutants.Mutant, test_sqlite.OnSqlite, StoreConformance)
    case "the laws of processes on SQLite":
        _make(sqlite_mutants, sqlite_mutants.Mutant, test_sqlite.OnSqlite, _LawsOfProcesses)
    case "all laws on PostgreSQL":
        _make(postgres_mutants, postgres_mutants.Mutant, test_postgres.OnPostgres, StoreConformance)
    case "all laws on NATS":
        _make(nats_mutants, nats_mutants.Mutant, test_nats.OnNats, StoreConformance)
    case unknown:
        raise ValueError(unknown)
