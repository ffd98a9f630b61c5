PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
# Most of these tests wait for something that takes real time.
E2E_JOBS ?= 4
PROFILE ?= ci
PYTEST := $(BIN)/python -m pytest --hypothesis-profile=$(PROFILE)
COVERAGE ?= --cov --cov-report=term
E2E    ?= tests
# Simulated days and millions of items: measuring their coverage would take longer than all the rest.
LONG   := tests/listing/test_ledger_day.py tests/listing/test_ledger_machine.py tests/listing/test_ledger_cost.py
# The lock files are complete. A resolver would look beyond them, and fail on the day one of their packages has a newer release.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps
LOCK   := uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --quiet

.PHONY: demo test unit long e2e lint types rules bench lock lowest sbom chart image clean

demo: $(VENV)/.run       ## start the exporter on the embedded simulated API
	$(BIN)/managed-agents-exporter --demo

test: $(VENV)/.test      ## everything CI runs; installs what it needs, Debian packages too
	.ci/debian-packages
	$(MAKE) lint types unit long e2e

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	$(PYTEST) -m "not e2e" -n $(JOBS) $(COVERAGE) $(LONG:%=--ignore=%)

long: $(VENV)/.test
	$(PYTEST) -n $(JOBS) $(LONG)

e2e: $(VENV)/.test
	$(PYTEST) -m e2e -n $(E2E_JOBS) $(E2E)

rules: $(VENV)/.test     ## the rules and the incidents with the promtool that is first on the PATH, and with vmalert-tool where it is there
	.ci/debian-packages
	$(PYTEST) -n $(JOBS) tests/shipped/test_rules.py tests/incidents

bench: $(VENV)/.bench    ## measure, beside a naive exporter, and renew docs/benchmarks
	$(BIN)/python -m tests.benchmark

lock:                    ## renew the hashed lock files (needs uv)
	$(LOCK) pyproject.toml -o requirements/run.lock
	$(LOCK) pyproject.toml --extra test -o requirements/test.lock
	$(LOCK) pyproject.toml --extra bench -o requirements/bench.lock

lowest:                  ## run the unit tests with the lowest versions that pyproject.toml allows (needs uv)
	.ci/lowest-dependencies

sbom:                    ## write a bill of materials of the locked packages (needs cyclonedx-py)
	mkdir -p dist
	cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json requirements/run.lock

chart: $(VENV)/.test     ## write what is generated of the Helm chart and the kustomization (the latter needs helm)
	$(BIN)/python -m config.helm.generate

image:                   ## build the container image without a registry, and start it (needs root, buildah, debootstrap)
	.ci/image

$(VENV)/bin/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/.run: requirements/run.lock pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --require-hashes -r requirements/run.lock
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: requirements/test.lock $(VENV)/.run
	$(INSTALL) --require-hashes -r requirements/test.lock
	$(BIN)/python -m pip check
	touch $@

$(VENV)/.bench: requirements/bench.lock $(VENV)/.test
	$(INSTALL) --require-hashes -r requirements/bench.lock
	touch $@

clean:
	rm -rf $(VENV) dist build
