"""The command line, at the edge: it sees the runtime's public API and the store port. `main.py` is where it begins."""
