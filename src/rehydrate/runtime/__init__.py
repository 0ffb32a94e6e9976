"""How it runs: a command's way from `dispatch` to its reply."""
