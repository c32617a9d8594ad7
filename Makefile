# Everything that a fresh machine needs is set up by the first target that is used: plain python3 and make suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Every command starts processes of its own; with bytecode on disk each starts a second earlier.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test lint bench bench-quick hnswlib damage-matrix crash-matrix races alert-matrix api-matrix clean clean-demo

help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY)  ## A virtual environment with the pinned dependencies

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes at most)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.10 to 3.13 is needed; this is `$(PYTHON) --version`. Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[ui,postgres,sandbox,dev]'
	@touch $(READY)

demo: $(READY)  ## The main job on this machine alone: 64 receipts to searchable snapshots
	@$(BIN)/embedding-assets demo

dev: $(READY)  ## The Dagster UI on the demo's data, with the sandbox and all sensors
	@$(BIN)/embedding-assets dev

test: $(READY)  ## Linters, type checker and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)  ## Linters and type checker alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) hnswlib  ## Speed against stated rivals in the same run: half an hour, 15 GB of disk
	$(BIN)/python -m benchmarks.speed --output benchmarks/results/$$(date -u +%F).md

bench-quick: $(READY) hnswlib  ## The same rows at smaller sizes: five minutes
	$(BIN)/python -m benchmarks.speed --quick

hnswlib: $(READY)  # the rival of some rows; without a C++ compiler they are left out
	@$(BIN)/python -c 'import hnswlib' 2>/dev/null || \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt 'hnswlib==0.8.0' || true

damage-matrix: $(READY)  ## Every kind of damage to every file of every database and to every other object: is it found, and healed?
	$(BIN)/python benchmarks/damage_matrix.py

crash-matrix: $(READY)  ## Kill every step and command at every write to the store, and look at what is left
	@PYTHONPATH=. $(BIN)/python benchmarks/crash_matrix.py

races: $(READY)  ## Many writers, pruners and readers at once on one collection
	@PYTHONPATH=. $(BIN)/python benchmarks/races.py

alert-matrix: $(READY)  ## Failures by kind, with channels down and a daemon that is killed: is an alert lost, or doubled?
	@PYTHONPATH=. $(BIN)/python benchmarks/alert_matrix.py

api-matrix: $(READY)  ## A batch service that misbehaves in every way: is anything lost, paid twice, wrong or stuck?
	@PYTHONPATH=. $(BIN)/python benchmarks/api_matrix.py

clean-demo:  ## Forget the demo's data
	rm -rf .demo

clean: clean-demo  ## Forget the demo's data and the virtual environment
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
