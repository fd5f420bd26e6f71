# Everything happens in .venv. The first target that needs it makes it from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG ?= configs/digits.yaml
DOCS := build/docs
COMPOSE ?= docker compose --project-name selftrain --file docker/compose.yaml
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run test slow lint format bench docs image up down lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## make .venv from the lock

$(READY): requirements.lock pyproject.toml tests/axe.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "selftrain needs Python 3.11, 3.12 or 3.13; say which: make PYTHON=python3.12 run"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r tests/axe.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

run: $(READY)  ## run the self-training loop on real images (CONFIG=configs/....yaml for another experiment)
	$(BIN)/selftrain run --config $(CONFIG)

test: $(READY)  ## run the tests: core, models, and the pipeline on a real local store
	$(BIN)/pytest -q -m "not slow and not gpu" -n 2 --durations=40 --durations-min=2 --dist loadfile --no-loadscope-reorder

slow: $(READY)  ## run the slow tests: every kill point, broken inputs end to end
	$(BIN)/pytest -q -m "slow and not gpu" -n 2 --durations=40 --durations-min=2 --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## run ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## run the measurements and record them under benchmarks/results/
	$(BIN)/python -m benchmarks

docs: $(DOCS)/.ready  ## make the documentation a site of static pages, in build/docs/site
	rm -rf $(DOCS)/pages
	mkdir -p $(DOCS)/pages
	tar -cf - --exclude docs/site *.md LICENSE docs configs/*.yaml benchmarks/*.md benchmarks/*.py benchmarks/results/*.md | tar -xf - -C $(DOCS)/pages
	test ! -d build/gallery || { mkdir -p $(DOCS)/pages/docs/gallery && cp build/gallery/*.html $(DOCS)/pages/docs/gallery/; }
	NO_MKDOCS_2_WARNING=1 $(DOCS)/env/bin/mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo $(DOCS)/site/index.html

$(DOCS)/.ready: docs/site/requirements.lock
	$(PYTHON) -m venv --clear $(DOCS)/env
	$(DOCS)/env/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/site/requirements.lock
	@touch $@

image:  ## build the container image (TARGET=gpu, BASE=, REGISTRY=, IMAGE=, BUILDER=: see docker/build.sh)
	docker/build.sh

up:  ## start ZenML, MLflow, an S3 store and serving on this machine, with secrets of their own
	docker/secrets.sh
	$(COMPOSE) up --detach

down:  ## stop what `make up` started, and keep its volumes
	$(COMPOSE) down

lock: $(READY)  ## resolve requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --quiet -o requirements.lock
	UV=$(CURDIR)/$(BIN)/uv docker/lock.sh
	$(BIN)/uv pip compile --no-config docs/site/requirements.in --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o docs/site/requirements.lock

clean:  ## remove .venv and caches, but never your data or .selftrain
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
