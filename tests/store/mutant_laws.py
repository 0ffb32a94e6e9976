"""The laws on every mutant: run by `test_mutants.py` in a process of its own, for many of these tests have to fail.

Pytest does not find this file by itself.
"""

from types import ModuleType

from rehydrate.testing.conformance import StoreConformance
from tests.store import memory_mutants, sqlite_mutants, test_memory, test_sqlite


def _make(module: ModuleType, mutant: type, laws: type[StoreConformance], patience: float) -> None:
    for name, found in vars(module).items():
        is_one = isinstance(found, type) and issubclass(found, mutant) and found is not mutant
        if is_one and found.__module__ == module.__name__ and not name.startswith("_"):
            named = f"Test{name}On{laws.__name__.removeprefix('Test')}"
            opener = f"{module.__name__}:{name}.open_mutant"
            globals()[named] = type(named, (laws,), {"opener": opener, "patience": patience})


# They answer at once, or never: a tenth of the time that a good store gets is plenty.
_make(memory_mutants, memory_mutants.Mutant, test_memory.TestSharedMemory, patience=0.1)
_make(sqlite_mutants, sqlite_mutants.Mutant, test_sqlite.TestSqlite, patience=0.3)
