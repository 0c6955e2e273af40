# The verbs of this project; `make` alone lists them.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# torch comes first and pinned: otherwise a looser request of another package may choose a far larger build of it.
TORCH := $(shell grep '^torch==' constraints.txt)
# One thread per worker: two workers with two threads each are slower than two with one.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench

help: ## List the verbs
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-6s  %s\n", $$1, $$2}'

setup: $(VENV)/.stamp-develop ## Make .venv with everything needed to develop (Python >= 3.11)

demo: $(VENV)/.stamp-core ## Train, evaluate and recommend on MovieLens-100K, into demo/
	$(BIN)/flr demo --output demo

test: $(VENV)/.stamp-develop ## Run all tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS)

check: $(VENV)/.stamp-develop ## Lint (the Dockerfile too, on Linux), check formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if [ "$$(uname)" = Linux ]; then $(BIN)/hadolint Dockerfile; fi

bench: $(VENV)/.stamp-develop ## Run every benchmark with its quick sizes
	@set -e; for benchmark in $$(grep -l __main__ benchmarks/*.py); do \
		echo "== $$benchmark"; $(BIN)/python -m "benchmarks.$$(basename $$benchmark .py)" --quick; done

$(VENV)/.stamp-venv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "flr needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.stamp-core: $(VENV)/.stamp-venv pyproject.toml
	$(PIP) -e .
	@touch $@

$(VENV)/.stamp-develop: $(VENV)/.stamp-core
	$(PIP) -e '.[develop]'
	@touch $@
