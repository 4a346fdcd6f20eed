# Everything a contributor types. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# What a person's pip is told elsewhere must not decide what gets installed here: the lock does.
PIP := env -u PIP_REQUIRE_VIRTUALENV -u PIP_USER -u PIP_TARGET $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q \
	--extra dev --extra claude --extra api

# Most of a test that runs the real CLI is waiting: one more than there are cores, up to six. A file's tests stay
# together: they share a bridge. The slow ones come first (tests/conftest.py).
WORKERS := $(shell n=$$(( $$(nproc) + 1 )); echo $$(( n < 6 ? n : 6 )))
APART := --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help setup run check test bench soak dialyzer lock docs format clean

help:  ## list what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /'

setup: .venv/installed tests/js/node_modules/.installed bridge/console/index.html  ## install everything, from nothing but Debian and root

.venv/python: scripts/setup-system
	@mkdir -p .venv
	@python=$$(scripts/setup-system) && "$$python" -m venv .venv && touch $@

.venv/installed: .venv/python requirements.lock pyproject.toml
	@echo "Installing the Python packages"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

tests/js/node_modules/.installed: .venv/python tests/js/package-lock.json
	@echo "Installing the npm packages"
	@npm ci --prefix tests/js --no-audit --no-fund --silent
	@touch $@

# What builds and tests the JavaScript client.
clients/js/node_modules/.installed: .venv/python clients/js/package-lock.json
	@echo "Installing the npm packages of the JavaScript client"
	@npm ci --prefix clients/js --no-audit --no-fund --silent
	@touch $@

# The web console. Where Node is too old for it the bridge runs without, and says so at `/`.
CONSOLE := $(shell find clients/console clients/js/src -name node_modules -prune -o -type f -print)

clients/console/node_modules/.installed: .venv/python clients/console/package-lock.json
	@echo "Installing the npm packages of the web console"
	@npm ci --prefix clients/console --no-audit --no-fund --silent
	@touch $@

bridge/console/index.html: clients/console/node_modules/.installed scripts/build-console $(CONSOLE)
	@scripts/build-console || [[ $$? == 3 ]]

.venv/browser: .venv/python scripts/setup-browser
	@scripts/setup-browser && touch $@

.venv/elixir: .venv/python scripts/setup-elixir
	@scripts/setup-elixir && touch $@

run: setup  ## serve on 127.0.0.1:4040; on the simulator where nobody is logged in
	@scripts/run

check: setup  ## what an edit needs, in half a minute: format, lint, types, unit tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest tests/test_architecture.py tests/unit -m "not real and not soak" --numprocesses logical --dist worksteal

test: setup .venv/browser .venv/elixir clients/js/node_modules/.installed  ## everything but the soak
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest tests -m "not soak" $(APART)

soak: setup .venv/browser .venv/elixir clients/js/node_modules/.installed  ## what takes longer: long drills, big fuzz runs
	@$(BIN)/pytest tests -m soak --timeout 3600

bench: setup .venv/elixir  ## measure, and write bench/REPORT.md
	@$(BIN)/python -m bench

dialyzer: .venv/elixir  ## check the Elixir client's types; minutes the first time, then seconds
	@scripts/dialyzer

docs: setup  ## rewrite what is made from the code: reference pages, the JavaScript client's codes
	@$(BIN)/python scripts/reference.py
	@node clients/js/scripts/codes.mjs

format: setup  ## let ruff format and fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: .venv/python  ## resolve requirements.lock anew; names no registry
	@$(PIP) install uv
	@env -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
		$(BIN)/uv pip compile --no-config $(LOCK_FLAGS) --upgrade -o requirements.lock pyproject.toml
	@if grep -nE '://|^-|file:' requirements.lock; then echo "the lock names a place"; exit 1; fi

clean:  ## remove what was built or installed here
	rm -rf .venv tests/js/node_modules clients/js/node_modules clients/js/dist clients/console/node_modules bridge/console clients/elixir/_build clients/elixir/tmp .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
