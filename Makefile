# Needs: Linux, Python >= 3.11 with venv and pip, git, make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
READY := .venv/.ready

# Tests and demo start hundreds of processes of ours: where bytecode is forbidden, each compiles all anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Makes .venv with everything that the lock names, and this checkout in it

$(READY): requirements-dev.lock pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
		if [ -z "$(PYTHON)" ]; then echo "setup: needs Python 3.11 or newer; say PYTHON=..." >&2; exit 1; fi; \
		"$(PYTHON)" -m venv .venv; \
	fi
	@# The lock is whole: with --no-deps a release made after it (coverage[toml] of pytest-cov) is not looked at.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(READY) ## Runs a plan of coding tasks on a sample repository, start to end, without a key
	@$(BIN)/python -m demo

.PHONY: test
test: $(READY) ## Runs the tests that need no key, but for `make thorough`; fails below 85 % of the branches of services and gateway
	@# A process more than two cores: some tests wait. A file whole: what its tests share is made once.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	$(BIN)/python -m tests.branches

.PHONY: soak
soak: $(READY) ## Does ten tasks 50 times over, under a watchdog
	$(BIN)/python -m pytest tests/integration/test_soak.py --rounds 50

.PHONY: repeat
repeat: $(READY) ## Runs the tests of TEST, as pytest takes it, 50 times or TIMES times, each anew, until one fails
	$(BIN)/python -m pytest -q -x --times $(or $(TIMES),50) $(or $(TEST),$(error say TEST=tests/...))

.PHONY: bench bench-speed bench-throttle bench-checkout bench-check
bench: bench-speed bench-throttle bench-checkout ## Measures on real processes, and prints what it found (on a quiet machine)
bench-speed: $(READY)
	$(BIN)/python -m bench --json build/bench.json
bench-throttle: $(READY)
	$(BIN)/python -m bench.throttle
bench-checkout: $(READY)
	$(BIN)/python -m bench.checkout
bench-check: $(READY) ## Measures ours beside threads, and fails where a ratio is below bench/floor.json
	$(BIN)/python -m bench --json build/bench.json --floor bench/floor.json

.PHONY: attack
attack: $(READY) ## Tries to have bad work accepted, and to do harm from inside the sandbox; ends with the numbers
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -p no:randomly -m "not live" tests/attack

.PHONY: thorough
thorough: $(READY) ## Runs what takes too long for `make test`: npm's test runners, Go, a goal's whole demo, every attack
	$(BIN)/python -m pytest -m "thorough and not live"

# Each check is a target of its own, so that `make lint` and the like work alone.
.PHONY: check lint format-check types layers proto-lint proto-drift proto-snapshot
check: lint format-check types layers proto-lint proto-drift proto-snapshot ## Checks style, types, import layers and protos
lint: $(READY)
	$(BIN)/ruff check .
format-check: $(READY)
	$(BIN)/ruff format --check .
types: $(READY)
	$(BIN)/mypy
layers: $(READY)
	$(BIN)/lint-imports
proto-lint: $(READY)
	$(BIN)/buf lint
proto-drift: $(READY)
	$(BIN)/python protos/generate.py --check
proto-snapshot: $(READY)
	$(BIN)/python protos/snapshot.py

.PHONY: fix
fix: $(READY) ## Mends what the linter and the formatter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: proto
proto: $(READY) ## Generates the Python API from protos/
	$(BIN)/python protos/generate.py

.PHONY: proto-accept
proto-accept: proto ## Takes the public API as it is now for its snapshot (add a line to CHANGELOG.md)
	$(BIN)/python protos/snapshot.py --accept

.PHONY: events
events: $(READY) ## Makes the tables, examples and sequences of docs/events.md anew, from protos and real runs
	$(BIN)/python -m tests.contract.events_document

.PHONY: lock
lock: $(READY) ## Resolves the dependencies anew and writes both lock files
	@compile="$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes"; \
	export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	$$compile --extra services --output-file requirements.lock; \
	$$compile --extra services --group dev --output-file requirements-dev.lock

.PHONY: clean
clean: ## Removes .venv, caches and what the demo left
	rm -rf .venv .demo .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
