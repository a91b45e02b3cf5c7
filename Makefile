# Everything runs in an environment that this file makes: Python 3.11 or newer, git and make are all that is needed.
PYTHON ?= python3
VENV ?= .venv
VENV_313 := .venv313
# Test processes: more than processors, as many tests wait for other processes.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 2))')
ARGS ?=
# The programs of a PostgreSQL server, and what is run against it.
POSTGRES_BIN ?=
POSTGRES_TESTS := $(wildcard tests/unit/store/test_p*.py tests/conformance/test_*postgres*.py) tests/integration/test_pooler.py tests/integration/test_transactions.py

BIN := $(VENV)/bin
# The path, or nothing; asked only by the targets that need it.
PYTHON_313 = $(shell tools/find_python.sh 3.13)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Hundreds of test processes import the same modules: they need not compile them each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-313 test-postgres typing lint format bench bench-kills bench-peers docs prove clean

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z0-9-]+:.*  ## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-run  ## real work end to end on one SQLite file
	$(BIN)/pynenc demo $(ARGS)

test: $(VENV)/.installed-dev  ## all tests, in parallel
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-313: $(VENV_313)/.installed-dev  ## the same tests on Python 3.13, where it is installed
	$(VENV_313)/bin/python -m pytest -n $(JOBS) $(ARGS)

test-postgres: $(VENV)/.installed-dev  ## the tests of PostgreSQL on a server of your own: POSTGRES_BIN=/usr/lib/postgresql/15/bin
	@test -x "$(POSTGRES_BIN)/initdb" || { echo "make test-postgres: POSTGRES_BIN must be the folder of initdb and postgres, as /usr/lib/postgresql/15/bin" >&2; exit 1; }
	PYNENC_TEST_POSTGRES_BIN="$(POSTGRES_BIN)" $(BIN)/python -m pytest -n $(JOBS) $(POSTGRES_TESTS) $(ARGS)

typing: $(VENV)/.installed-dev  ## what type checkers see of the public API
	$(BIN)/python -m pytest tests/api/typing $(ARGS)

lint: $(VENV)/.installed-dev  ## style, types, layers and sizes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_sizes.py

format: $(VENV)/.installed-dev  ## mend what can be mended without thinking
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.installed-bench  ## measurements beside the raw engine and the peers that are installed
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-kills: $(VENV)/.installed-bench  ## what becomes of calls whose workers are killed, beside the peers that are installed
	$(BIN)/python -m benchmarks.killed $(ARGS)

bench-peers: $(VENV)/.installed-peers  ## install all peers, which `make bench` and `make bench-kills` then take as well

docs: $(VENV)/.installed-dev  ## what is generated from the code: the reference and the list of the public API
	$(BIN)/python -m tools.make_reference
	$(BIN)/python -m tools.make_public_api

prove: $(VENV)/.installed-dev  ## simulation, chaos and kill rounds
	$(BIN)/python -m pynenc.testing.prove $(ARGS)

clean:  ## remove environments, caches and stores of examples
	rm -rf $(VENV) $(VENV_313) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .pynenc
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments -------------------------------------------------------------------------------------------------------
# A stamp says that one set of requirements is installed; it is older than pyproject.toml when they changed.

$(VENV)/bin/python:
	@tools/make_venv.sh "$(PYTHON)" $(VENV)

$(VENV)/.installed-run: pyproject.toml | $(VENV)/bin/python
	@echo "installing pynenc into $(VENV)"
	@$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing pynenc and the development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/bin/python
	@echo "installing pynenc, servers and a peer into $(VENV)"
	@$(BIN)/python -m pip install --quiet -e '.[bench]'
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-peers: benchmarks/requirements-peers.txt $(VENV)/.installed-bench
	@echo "installing the peers into $(VENV)"
	@$(BIN)/python -m pip install --quiet -r benchmarks/requirements-peers.txt
	@touch $@

$(VENV_313)/bin/python:
	@test -n "$(PYTHON_313)" || { echo "make test-313: no Python 3.13 found; install one or put python3.13 on PATH" >&2; exit 1; }
	@tools/make_venv.sh "$(PYTHON_313)" $(VENV_313)

$(VENV_313)/.installed-dev: pyproject.toml | $(VENV_313)/bin/python
	@echo "installing pynenc and the development tools into $(VENV_313)"
	@$(VENV_313)/bin/python -m pip install --quiet -e '.[dev]'
	@touch $@
