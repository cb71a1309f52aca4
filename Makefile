# What people type. Everything happens in .venv; nothing is installed outside of it, except by `make test` as root on Debian,
# which says first what it installs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MEMBERS := core $(patsubst %/pyproject.toml,%,$(wildcard providers/*/pyproject.toml plugins/*/pyproject.toml)) kubeup
MEMBER_FILES := $(MEMBERS:%=%/pyproject.toml)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help up down local local-down test check bench format constraints clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

up: .venv/run ## set up, and bring docs/examples/quickstart.yaml up on the simulator
	@$(BIN)/kubeup up -f docs/examples/quickstart.yaml

down: .venv/run ## take the quickstart down again, to nothing
	@$(BIN)/kubeup down -f docs/examples/quickstart.yaml --yes --volumes

local: .venv/dev ## a real Kubernetes cluster on this machine's Docker engine; sets everything up that it needs
	@$(BIN)/python tests/artifacts local

local-down: .venv/dev ## take that cluster away again
	@$(BIN)/python tests/artifacts local-down

test: .venv/dev ## set up, and run every test
	@$(BIN)/python tests/artifacts/system.py
	@$(BIN)/python -c 'import libvirt' 2>/dev/null || { pkg-config --exists libvirt && $(BIN)/pip install -q -c constraints.txt libvirt-python; } || echo "going on without libvirt-python: its tests skip"
	@$(BIN)/python tests/artifacts bundle || echo "going on without: the tests of real Kubernetes say what they miss"
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20 $(ARGS)

check: .venv/dev ## ruff, mypy --strict, import-linter, the repository's rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(MEMBERS:%=%/src)
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_repository.py

bench: .venv/dev ## print the figures of tests/benchmarks
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

format: .venv/dev ## put the code into its form
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

constraints: .venv/dev ## write down the versions that are installed now
	{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' ; } > constraints.new && mv constraints.new constraints.txt

clean: ## remove what was installed here; leaves state directories alone
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kubeup needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Debian keeps venv apart: installing python3-venv"; \
	    { apt-get install -qq -y python3-venv >/dev/null || { apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; }; } && $(PYTHON) -m venv .venv; \
	  else echo "Python's venv module is missing. On Debian: sudo apt-get install python3-venv"; exit 1; fi; }
	@touch $@

.venv/run: .venv/pip constraints.txt pyproject.toml $(MEMBER_FILES)
	@echo "Installing kubeup into .venv ..."
	@$(BIN)/pip install -q -c constraints.txt hatchling editables
	@$(BIN)/pip install -q -c constraints.txt --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@

.venv/dev: .venv/run
	@echo "Installing the tools for tests and checks into .venv ..."
	@$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
