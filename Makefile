# Every target prepares the machine itself (.ci/setup), so that each works in a clean clone.

BIN := .venv/bin
ARGS ?=

# Many tests start processes of the worker. Without compiled files each of them compiles all modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install everything that tests and linters need
	@.ci/setup dev

.PHONY: demo
demo: ## push recorded speech (or WAV=file) through the whole system and listen in demo-out/
	@.ci/setup run
	@$(BIN)/audio-batch-worker demo --out demo-out $(if $(WAV),--wav "$(WAV)")

.PHONY: check
check: lint ## for every save: the linters and the quick tests (ARGS=... goes to pytest)
	@$(BIN)/python -m pytest -q -n logical --dist worksteal -m "not slow" tests/unit $(ARGS)

.PHONY: test
test: setup ## run all tests (ARGS=... goes to pytest; "-o asyncio_debug=true" is thorough and takes twice as long; HELM=/path)
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: lint
lint: setup ## check style, types and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

AUDIT = "$$tmp/bin/pip-audit" --progress-spinner off --vulnerability-service osv --disable-pip --require-hashes

.PHONY: audit
audit: setup ## look up known vulnerabilities of what the worker is pinned to (asks api.osv.dev)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT \
	&& $(BIN)/python -m venv "$$tmp" && "$$tmp/bin/pip" install --quiet --disable-pip-version-check pip-audit \
	&& { $(AUDIT) --requirement deploy/requirements.txt >"$$tmp/report" 2>&1; status=$$?; \
	if grep -q ConnectionError "$$tmp/report"; then echo "api.osv.dev can't be reached from here: nothing was looked up"; \
	else cat "$$tmp/report"; fi; exit $$status; }

.PHONY: bench
bench: ## measure on this machine (ARGS=... goes to tests.tools.bench)
	@.ci/setup bench
	@$(BIN)/python -m tests.tools.bench $(ARGS)

.PHONY: chaos
chaos: setup ## kill, pause and disconnect real workers at random, and account for every sample
	@$(BIN)/python -m tests.tools.chaos $(ARGS)

.PHONY: fuzz
fuzz: setup ## feed hostile bytes to all parsers, guided by coverage (ARGS="--seconds 3600 blobs")
	@$(BIN)/python -m tests.tools.fuzz $(ARGS)

UV = tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT \
	&& $(BIN)/python -m venv "$$tmp" && "$$tmp/bin/pip" install --quiet --disable-pip-version-check uv

.PHONY: lowest
lowest: setup ## run the quick unit tests with the lowest versions that pyproject.toml allows (PYTHON=python3.11)
	@$(UV) && uv="$$tmp/bin/uv" && python="$$tmp/lowest/bin/python" \
	&& "$$uv" venv --quiet --python $(BIN)/python "$$tmp/lowest" \
	&& "$$uv" pip compile pyproject.toml --quiet --extra demo --resolution lowest-direct --python "$$python" \
		--output-file "$$tmp/lowest.txt" \
	&& "$$uv" pip install --quiet --no-deps --python "$$python" -r tests/requirements.txt \
	&& "$$uv" pip install --quiet --no-deps --python "$$python" -r "$$tmp/lowest.txt" -e . \
	&& "$$python" -m pytest -q -n auto -m "not slow" -W ignore::DeprecationWarning tests/unit $(ARGS)

PIN = $$tmp/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make requirements" $(if $(UPGRADE),--upgrade)

.PHONY: requirements
requirements: setup ## pin what pyproject.toml asks for (UPGRADE=1 moves all pins to the newest)
	@$(UV) \
	&& $(PIN) --extra worker --output-file deploy/requirements.txt \
	&& $(PIN) --extra demo --constraint deploy/requirements.txt --output-file deploy/demo-requirements.txt \
	&& $(PIN) --extra dev --constraint deploy/demo-requirements.txt --output-file tests/requirements.txt \
	&& $(PIN) --extra bench --constraint tests/requirements.txt --output-file tests/tools/bench/requirements.txt \
	&& printf 'cmake>=3.25\nhatchling>=1.26\nninja\nscikit-build-core>=0.10\nsetuptools>=77\n' | $(subst pyproject.toml,-,$(PIN)) --output-file deploy/build-requirements.txt

.PHONY: chart-readme
chart-readme: setup ## write the table of values into deploy/helm/README.md
	@$(BIN)/python deploy/chart_readme.py

.PHONY: dashboard-picture
dashboard-picture: setup ## draw the dashboard of a run in which everything happens (deploy/helm/dashboard.svg)
	@$(BIN)/python -m tests.deploy.dashboard_picture

.PHONY: image
image: setup ## build deploy/Dockerfile without a daemon, start the image, list its parts (needs root and buildah)
	@$(BIN)/python deploy/image $(ARGS)

.PHONY: page-pictures
page-pictures: setup ## take pictures of the page in a run with a real worker (.github/page-*.webp)
	@$(BIN)/python -m tests.tools.page_pictures

.PHONY: readme
readme: setup ## write the tables of settings, commands and metrics into worker/README.md
	@$(BIN)/python -m tests.tools.readme

.PHONY: contract
contract: setup ## write the AsyncAPI document of entries and done events (codec/asyncapi.json)
	@$(BIN)/python -m tests.tools.contract

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf .venv demo-out dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
