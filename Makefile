# make setup   a virtual environment with everything
# make demo    fine-tuning on real images, from nothing to a table, in two minutes
# make up      the server and a worker
# make test    all checks and tests
# make test-long   the long profile of the tests that try at random; writes docs/reliability.md's table
# make lint    the checks alone
# make screenshots  makes the pictures of README and docs/page.md, from real jobs on real photographs
# make bench   compares Thaw with the plain loop on this machine; BENCH="--only limits" runs a part
# make bench-peers   the same with timm, torchvision's references, fastai, Lightning and the Hugging Face Trainer
# make bench-tables  writes what was measured into docs/performance.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
BENCH ?=
# Folders of tests, slashes as dashes, those that take longest first; a part ends its servers, and frees their memory.
PARTS := acceptance app-api page app-store finetune reliability client

.PHONY: setup demo up browser screenshots test $(PARTS:%=test-%) test-rest test-long lint bench bench-peers bench-tables

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

# The machine's Chromium, or one that is installed.
browser: setup
	$(BIN)/python -m tests.page.browser

screenshots: browser
	$(BIN)/python -m tests.page.screenshots

# Two at once, for two cores: whichever is done takes the next part.
test: lint browser
	$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=line $(PARTS:%=test-%) test-rest

$(PARTS:%=test-%): test-%:
	$(BIN)/pytest tests/$(subst -,/,$*)

test-rest:
	$(BIN)/pytest $(foreach part,$(PARTS),--ignore tests/$(subst -,/,$(part)))

bench: setup
	$(BIN)/python -m benchmarks.run $(BENCH)

bench-peers: setup $(PEERS_STAMP)
	$(BIN)/python -m benchmarks.run --peers --peers-python $(PEERS)/bin/python $(BENCH)

$(PEERS_STAMP): benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

bench-tables: setup
	$(BIN)/python -m benchmarks.tables benchmarks/results/results.json docs/performance.md

# What makes no promise has no long profile: `make test` runs it.
test-long: lint
	$(BIN)/pytest --long -m promise --timeout 7200 --promises=docs/reliability.md
