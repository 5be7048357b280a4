# Everything a developer or CI calls; `make` alone lists it. Needs a Python with pip, and nothing else.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
READY := $(VENV)/.ready
PINS := constraints/dev.txt
# The pins hold for 3.11 to 3.13; Airflow's own images run 3.12.
PYTHONS := python3.12 python3.13 python3.11 python3

.PHONY: help demo test lint format pins clean

help: ## List the targets.
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(READY) ## Run the example DAG and flow in a real Airflow and a real Prefect against a local CARTO.
	@$(VENV)/bin/python -m examples.demo

test: $(READY) ## Run all tests; pass options to pytest with ARGS="…".
	@$(VENV)/bin/python -m pytest $(ARGS)

lint: $(READY) ## Check style, types and the layers of the packages.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(READY) ## Format the code and sort its imports.
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

pins: ## Choose the newest versions that fit together, and write them down.
	uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --upgrade \
	  --no-header --no-annotate --quiet --output-file $(PINS)

clean: ## Remove all that these targets make, the environments too.
	rm -rf $(VENV) $(VENV)-uv demo-map.png .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# uv where there is one that knows dependency groups, else one of our own. Bytecode is compiled once, here: Airflow and
# Prefect start a dozen processes, and each would lose seconds.
$(READY): pyproject.toml $(PINS)
	@python=$$(for each in $(PYTHONS); do "$$each" -c \
	    'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit(1); print(sys.executable)' 2>/dev/null && break; \
	  done) || { echo "Needs Python 3.11, 3.12 or 3.13." >&2; exit 1; }; \
	uv=uv; \
	if ! uv pip install --help 2>/dev/null | grep -q -e --group; then \
	  "$$python" -m venv --clear $(VENV)-uv; \
	  $(VENV)-uv/bin/python -m pip install --quiet --disable-pip-version-check -c $(PINS) uv; \
	  uv=$(VENV)-uv/bin/uv; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version): once, about two minutes …"; \
	"$$uv" venv --quiet --clear --python "$$python" $(VENV); \
	"$$uv" pip install --quiet --compile-bytecode --python $(VENV)/bin/python -c $(PINS) -e ".[all]" --group dev
	@touch $@
