# One word for each chore; each sets up what it needs by itself. PORT, GEOCRM_HOME and GEOCRM_DATABASE_URL are honoured.
.PHONY: help setup demo test lint bench soak docs clean

PYTHON = .venv/bin/python
TESTS = # which tests: make test TESTS=tests/test_setup.py

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: ## install what is missing: PostgreSQL + PostGIS, Python packages, the web application
	@scripts/setup

demo: ## set up, load the demo company, serve it, print the address and a login for each role
	@scripts/setup
	@exec .venv/bin/geocrm up --demo

test: ## set up and run every test (in under 15 minutes)
	@scripts/setup --tests
	@$(PYTHON) -m pytest -n 2 --dist loadfile $(TESTS)

lint: ## style, types, and the web application's own checks
	@scripts/setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@scripts/npm run lint
	@scripts/npm run check

bench: ## each workload beside its peers, at full size; results in benchmarks/results
	@scripts/setup
	@$(PYTHON) -m benchmarks.run

soak: ## the long tests: kill series, large loads
	@scripts/setup --tests
	@$(PYTHON) -m pytest -m soak -rP $(TESTS)

docs: ## write the generated pages of docs/reference anew
	@scripts/setup
	@$(PYTHON) scripts/reference.py

clean: ## stop the databases, remove what set-up and tests made (the data of GEOCRM_HOME stays)
	@[ ! -x .venv/bin/geocrm ] || .venv/bin/geocrm down
	@[ ! -d .geocrm-test ] || GEOCRM_HOME=.geocrm-test .venv/bin/geocrm down
	@rm -rf .venv .tools .geocrm-test maps/node_modules maps/dist
