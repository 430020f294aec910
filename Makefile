# Everything a newcomer needs: `make run` speaks, `make test` proves it. Both set themselves up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# More processes than cores: servers under test spend their time waiting.
PYTEST_ARGS ?= -n 3

# Whatever has been done already is a file here, so that a second start costs nothing.
PYTHON_READY := $(VENV)/.python-ready
RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
CLIENTS := .venv-clients
CLIENTS_READY := $(CLIENTS)/.ready
VENDORS := .venv-clients-vendors
VENDORS_READY := $(VENDORS)/.ready
VENDORS_LOCK := tests/clients/locks/vendors
DOORS := build/doors.json
OPUS_READY := $(VENV)/.libopus-looked-for

# The environment variable, unlike pip's option, holds for the tools that build a package as well.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call apt,PACKAGE): installs it as root on Debian and its kin, quietly; fails anywhere else.
apt = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	export DEBIAN_FRONTEND=noninteractive && { apt-get -qq update; \
	apt-get -qq install -y --no-install-recommends $(1) >/dev/null; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test test-clients test-browser test-vendors door-matrix soak lint format proto lock \
	lock-clients clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN_READY) $(OPUS_READY) ## Start the server: make run ARGS='--port 9000'
	@exec $(BIN)/cosyduplex serve $(ARGS)

test: lint $(OPUS_READY) ## Everything that must pass: lint, types, tests
	@echo "== pytest"
	@$(BIN)/pytest -q $(PYTEST_ARGS)

test-clients: test-browser test-vendors ## Real clients: a browser and the vendors' SDKs

test-browser: $(CLIENTS_READY) $(OPUS_READY) ## The demo page in a real browser, in an environment of its own
	@echo "== pytest, with Chromium"
	@$(CLIENTS)/bin/pytest -q $(PYTEST_ARGS) tests/browser

test-vendors: $(VENDORS_READY) $(RUN_READY) $(OPUS_READY) ## Unmodified vendor SDKs, in an environment of their own
	@echo "== pytest, with the vendors' SDKs"
	@$(VENDORS)/bin/pytest -q $(PYTEST_ARGS) --doors=$(DOORS) tests/clients
	@$(VENDORS)/bin/python tests/clients/matrix.py check $(DOORS)

door-matrix: $(VENDORS_READY) $(RUN_READY) $(OPUS_READY) ## Write docs/doors-matrix.md from a run of the tests
	@$(VENDORS)/bin/pytest -q $(PYTEST_ARGS) --doors=$(DOORS) tests/clients; test $$? -le 1
	@$(VENDORS)/bin/python tests/clients/matrix.py write $(DOORS)

soak: $(DEV_READY) $(OPUS_READY) ## The campaigns at full size: half an hour
	@$(BIN)/pytest -q -m soak

lint: $(DEV_READY) ## Style and types
	@echo "== ruff"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@echo "== mypy"
	@$(BIN)/mypy

format: $(DEV_READY) ## Put the code into shape
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

setup: $(DEV_READY) $(OPUS_READY) ## Install everything for development, and start nothing

proto: $(DEV_READY) ## Generate the stubs of the engine link and the gRPC doors
	@$(BIN)/python -m grpc_tools.protoc -I server --python_out=server --pyi_out=server \
		--grpc_python_out=server server/cosyduplex_server/engine/link/worker.proto
	@$(BIN)/python -m grpc_tools.protoc -I bridges --python_out=bridges --pyi_out=bridges \
		--grpc_python_out=bridges bridges/cosyduplex_bridges/grpc_stubs/*.proto

lock: $(PYTHON_READY) ## Bring constraints.txt to the newest versions that pyproject.toml allows
	@rm -rf build/lock && $(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet torch
	@PIP_CONSTRAINT= build/lock/bin/python -m pip install --quiet hatchling setuptools wheel -e '.[dev,browser,bench]'
	@{ sed -n '/^#/p' constraints.txt; PIP_CONSTRAINT= build/lock/bin/python -m pip freeze --all \
		--exclude pip --exclude-editable; } > build/lock/constraints.txt
	@mv build/lock/constraints.txt constraints.txt && rm -rf build/lock

lock-clients: $(PYTHON_READY) ## Bring the lock file of the vendors' SDKs to the newest versions that vendors.in allows
	@rm -rf build/lock-clients && $(BIN)/python -m venv build/lock-clients
	@PIP_CONSTRAINT= build/lock-clients/bin/python -m pip install --quiet -r $(VENDORS_LOCK).in
	@{ echo "# Every package of $(VENDORS), from vendors.in. To refresh: \`make lock-clients\`, then \`make test-clients\`."; \
		PIP_CONSTRAINT= build/lock-clients/bin/python -m pip freeze --all --exclude pip; } > build/lock-clients/lock.txt
	@mv build/lock-clients/lock.txt $(VENDORS_LOCK).txt && rm -rf build/lock-clients

clean: ## Remove whatever was installed or built here
	@rm -rf $(VENV) $(CLIENTS) $(VENDORS) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		tests/clients/.pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up

$(PYTHON_READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(call apt,python3-venv); } || { \
		echo "Python's venv module is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN_READY): $(PYTHON_READY) pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet -e '.[server,voice,bridges]'
	@touch $@

$(DEV_READY): $(PYTHON_READY) pyproject.toml constraints.txt
	@echo "Installing into $(VENV) for development (once) ..."
	@$(BIN)/python -m pip install --quiet torch
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(RUN_READY) $@

# Without Chromium the tests of the page are skipped, and say so.
$(CLIENTS_READY): $(PYTHON_READY) pyproject.toml constraints.txt
	@echo "Installing into $(CLIENTS) for tests with real clients (once) ..."
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet -e '.[server,voice,bridges,browser]' \
		hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist
	@command -v chromium >/dev/null || { $(call apt,chromium); } || \
		echo "Chromium is missing, so the demo page is not tested (Debian: apt-get install chromium)"
	@touch $@

# The server is not installed here: its clients are to meet nothing of it but its sockets.
$(VENDORS_READY): $(PYTHON_READY) $(VENDORS_LOCK).txt
	@echo "Installing into $(VENDORS) for tests with the vendors' SDKs (once) ..."
	@$(PYTHON) -m venv $(VENDORS)
	@PIP_CONSTRAINT= $(VENDORS)/bin/python -m pip install --quiet --no-deps -r $(VENDORS_LOCK).txt
	@touch $@

# Without libopus audio is PCM alone, and everything else works: say so once, and go on.
$(OPUS_READY): | $(PYTHON_READY)
	@have() { $(BIN)/python -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("opus"))'; }; \
	have || { $(call apt,libopus0); } || true; \
	have || echo "libopus is missing, so audio is sent as PCM, not Opus" \
		"(Debian: apt-get install libopus0, Fedora: dnf install opus, macOS: brew install opus)"
	@touch $@
