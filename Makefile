# make setup   a virtual environment with everything
# make demo    fine-tuning on real images, from nothing to a table, in two minutes
# make up      the server and a worker
# make test    all checks and tests
# make test-long   the long profile of the tests that try at random
# make lint    the checks alone

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo up test test-long lint

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m examples.digits

up: setup
	$(BIN)/thaw up

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

test-long: lint
	$(BIN)/pytest --long
