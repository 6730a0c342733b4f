# The ways in. Everything happens in .venv, made from the locks with their hashes; nothing is
# built, so the locks are all that is ever downloaded.

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
	--require-hashes --no-deps

# Further words for pytest or the bench: make test ARGS="-k items"
ARGS ?=

# Tests wait for other processes half of the time, so two more of them run at once than there are
# CPUs; more than 16 would ask for more connections than PostgreSQL is given.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 14 ? 16 : n + 2)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-system coverage check bench format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/runtime ## Start the service, PORT=8000 if not set
	@exec $(BIN)/kingpost serve

test: $(VENV)/development ## Run the tests on SQLite and on PostgreSQL with Redis
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not system and not bench" $(ARGS)

test-system: $(VENV)/development ## Run the heavy tests under faults and load, 20 minutes
	@$(BIN)/pytest -m system $(ARGS)

coverage: ## Run the tests and list the lines of app that none reaches; 5 % may be left
	@$(MAKE) test ARGS="--cov --cov-report=term-missing:skip-covered $(ARGS)"

check: $(VENV)/development ## Check format, lint, types, imports, migrations and the OpenAPI document
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q -p no:cacheprovider tests/unit/test_migrations.py
	$(BIN)/kingpost openapi | $(BIN)/openapi-spec-validator -

bench: $(VENV)/development ## Measure against the bare stack and write docs/performance.md
	@$(BIN)/python -m tests.bench $(ARGS)
	@$(if $(findstring quick,$(ARGS)),true,$(BIN)/python -m tests.bench.bulk --write)
	@$(if $(findstring quick,$(ARGS)),true,$(BIN)/python -m tests.bench.sockets_scale --write)

format: $(VENV)/development ## Format the code and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: ## Resolve pyproject.toml anew into both locks (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv (pip install uv)." >&2; exit 1; }
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --group dev --output-file requirements-dev.lock

# No index address in the locks: each machine has its own.
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml

clean: ## Remove .venv and what the tools leave; your data in var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf htmlcov .coverage* dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ── The virtual environment ─────────────────────────────────────────────────────────────────────

# Installed again only when its lock has changed. What the tests need includes what it runs on.
$(VENV)/runtime: requirements.lock | $(BIN)/kingpost
	@echo "Installing requirements.lock …"
	@$(PIP_INSTALL) -r requirements.lock
	@touch $@

$(VENV)/development: requirements-dev.lock | $(BIN)/kingpost
	@echo "Installing requirements-dev.lock …"
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $(VENV)/runtime $@

# The command line of this checkout, from any folder.
$(BIN)/kingpost: Makefile | $(BIN)/python
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/$(BIN)/python" -m app.cli "$$@"\n' \
		"$(CURDIR)" "$(CURDIR)" > $@
	@chmod +x $@

# A candidate may be a shim of nothing, too old, or Debian's, which has ensurepip in another package.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.12 python3.13 python3.11 python3.14; do \
		if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then echo "Making $(VENV) with $$($$python --version) …"; \
			$$python -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "Kingpost needs Python 3.11 or newer with its venv module, and found none." >&2; \
	echo "Debian, Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
	echo "One that is not on the PATH: make PYTHON=/path/to/python3 …" >&2; \
	exit 1
