"""The laws on every mutant: run by `test_mutants.py` in a process of its own, for most of these tests have to fail."""

from tests.store import memory_mutants, test_memory

_ON_MEMORY = [
    mutant
    for mutant in vars(memory_mutants).values()
    if isinstance(mutant, type)
    and issubclass(mutant, memory_mutants.Mutant)
    and mutant.__module__ == memory_mutants.__name__
    and not mutant.__name__.startswith("_")
]

for _mutant in _ON_MEMORY:
    _opener = f"{_mutant.__module__}:{_mutant.__name__}.open_mutant"
    globals()[f"Test{_mutant.__name__}"] = type(
        f"Test{_mutant.__name__}", (test_memory.TestSharedMemory,), {"opener": _opener}
    )
