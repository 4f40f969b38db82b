# `make help` prints the text after ## of each target.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := build/bench-venv
FILE ?= manifests/samples/demo.yaml
ARGS ?=

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@echo "Python packages for this checkout (usually 20 s)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed. Name it with: make PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment. On Debian, run: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(VENV) --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(VENV) --no-build-isolation --no-deps -e .
	@touch $@

page/node_modules/.package-lock.json: page/package-lock.json
	@npm ci --silent --prefix page || { echo "npm could not install the page's STOMP client. Check that Node with npm is installed and that its registry answers."; exit 1; }

.PHONY: venv
venv: $(VENV)/.ready ## Make .venv with the locked Python packages.

.PHONY: demo
demo: $(VENV)/.ready ## Run the demo on kind, from nothing. It ends by itself, and the cluster stays up.
	@$(PYTHON) -m local_cluster up
	@$(BIN)/python -m demo

.PHONY: demo-down
demo-down: ## Remove the demo's kind cluster.
	@$(PYTHON) -m local_cluster down

.PHONY: demo-token
demo-token: $(VENV)/.ready ## Print a token that the demo's gateways accept: make -s demo-token USER=alice
	@$(BIN)/python -m demo token "$(USER)"

.PHONY: run
run: $(VENV)/.ready page/node_modules/.package-lock.json ## Run the data plane on this machine without Kubernetes, until Ctrl-C: make run [FILE=…]
	@$(PYTHON) -m local_cluster images --only data-plane
	@$(BIN)/python -m local_run --file "$(FILE)"

.PHONY: test
test: $(VENV)/.ready page/node_modules/.package-lock.json ## Run every test: static, unit, fuzz, simulation, integration, chaos, conformance, e2e on kind.
	@$(PYTHON) -m local_cluster up
	@$(PYTHON) -m local_cluster last-release
	@$(PYTHON) -m local_cluster chromium
	@$(BIN)/python -m tests.side_by_side $(ARGS)

.PHONY: test-unit
test-unit: $(VENV)/.ready ## Run the tests that need no service; takes seconds.
	@$(BIN)/pytest tests/unit $(ARGS)

.PHONY: test-simulation
test-simulation: $(VENV)/.ready ## Run seeded schedules of faults: make test-simulation ARGS=--schedules=1000000, or ARGS=--seed=7
	@$(BIN)/pytest tests/simulation $(ARGS)

.PHONY: test-mutation
test-mutation: $(VENV)/.ready ## Break the deciding modules one point at a time: a sample, or ARGS=--all, --seed=7, --module=…
	@$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.ready ## Kill and restart everything under traffic, in every mode, and print the delivery checker's table.
	@$(PYTHON) -m local_cluster images --only data-plane
	@$(BIN)/pytest tests/chaos --all-faults $(ARGS)

.PHONY: test-integration
test-integration: $(VENV)/.ready page/node_modules/.package-lock.json ## Run the tests against real Redis, RabbitMQ and Chromium.
	@$(PYTHON) -m local_cluster images --only data-plane
	@$(PYTHON) -m local_cluster chromium
	@$(BIN)/pytest tests/integration $(ARGS)

.PHONY: test-conformance
test-conformance: $(VENV)/.ready ## Run the tests against other implementations: Autobahn, STOMP clients, RabbitMQ's web_stomp.
	@$(PYTHON) -m local_cluster images --only data-plane
	@$(BIN)/pytest tests/conformance $(ARGS)

.PHONY: test-e2e
test-e2e: $(VENV)/.ready ## Run the end-to-end tests on kind.
	@$(PYTHON) -m local_cluster up
	@$(PYTHON) -m local_cluster last-release
	@$(PYTHON) -m local_cluster chromium
	@$(BIN)/pytest tests/e2e $(ARGS)

.PHONY: check
check: $(VENV)/.ready ## Run only the static checks: ruff, mypy strict, import-linter.
	@$(BIN)/pytest tests/static $(ARGS)

.PHONY: bench
bench: $(BENCH_VENV)/.ready ## Measure against peers in about 18 minutes, and write docs/benchmarks.md. ARGS="--long" measures more.
	@$(PYTHON) -m local_cluster images --only data-plane
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

# A virtual environment of its own, because the quickest Python that is installed measures the product best.
$(BENCH_VENV)/.ready: $(VENV)/.ready requirements/bench.txt benchmarks/interpreter.py
	@python=$$($(BIN)/python -m benchmarks.interpreter) && $(BIN)/uv venv --quiet --clear --python "$$python" $(BENCH_VENV)
	@$(BIN)/uv pip sync --quiet --python $(BENCH_VENV) --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV) --require-hashes -r requirements/bench.txt
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV) --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: format
format: $(VENV)/.ready ## Format the code, and fix what ruff can fix.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: images
images: ## Build every image.
	@$(PYTHON) -m local_cluster images

.PHONY: load
load: ## Rebuild the programs' images and load them into the running kind cluster.
	@$(PYTHON) -m local_cluster load

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate --python-version 3.11

.PHONY: lock
lock: $(VENV)/.ready ## Write requirements/*.txt again from pyproject.toml.
	@$(UV_COMPILE) --upgrade pyproject.toml --extra dev -o requirements/dev.txt
	@echo uv | $(UV_COMPILE) - -c requirements/dev.txt -o requirements/uv.txt
	@for program in gateway dispatcher operator page bench; do \
	  $(UV_COMPILE) pyproject.toml --extra $$program -c requirements/dev.txt -o requirements/$$program.txt; done

.PHONY: clean
clean: ## Remove build/ and .venv. The caches and the cluster stay.
	@rm -rf build $(VENV)
