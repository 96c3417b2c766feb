# Two commands for a fresh machine: `make repro` and `make test`. Both set up .venv where it is missing.
# The first of these that starts and is 3.11 or 3.12; or say make PYTHON=/path/to/python3.11 repro.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3 python3.12 python3.11; do $$name -c '$(FITS)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
# For what recipes start: DVC, say, looks for `python`. Recipes themselves name programs by their place, since make 3.81,
# which macOS has, looks for them in the PATH that it was started with.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Tests run in so many processes of one thread each, every file in one of them: two threads of one process would wait for
# each other most of the time.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: repro test test-slow lint benchmark clean
.DELETE_ON_ERROR:

repro: $(VENV)/installed  ## Run every stage that is not up to date, then say where the results are.
	@date +%s > .repro-started
	$(BIN)/python pipeline/repro.py
	@$(BIN)/python pipeline/summary.py

test: $(VENV)/installed  ## The quick tests, under five minutes.
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/installed  ## The tests that run whole pipelines.
	$(PYTEST) -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

$(VENV)/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "skinsynth needs Python 3.11 or 3.12: make PYTHON=/path/to/python3.11 repro"; exit 1; }
	@# An environment without pip is what Debian's Python leaves behind where the package python3-venv is missing.
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:  ## Forget the environment and the states of trainings; results and DVC's cache stay.
	rm -rf $(VENV) .checkpoints
