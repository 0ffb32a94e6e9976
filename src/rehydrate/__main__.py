"""`python -m rehydrate`: the same as `rehydrate`."""

from rehydrate.cli.main import main

if __name__ == "__main__":
    main()
