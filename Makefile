# make demo    count the words of the Python standard library with several worker processes
# make test    run every test whose server is present (TWISTER2_REQUIRE_SERVERS=1: a missing server is a failure)
# make lint    format, style, types, import rules, repository rules
# make docs    build the documentation into docs/_build/html
# make wheels  build every distribution into dist/
# make format  rewrite the sources in the project's style
# make clean   remove what the other targets made, .venv too
#
# Everything goes into .venv/, made with the Python that tools/find_python.sh finds; PYTHON=... names another.
# 'make demo' also writes its counts to demo-output/.

.DELETE_ON_ERROR:
.PHONY: demo test lint docs wheels format constraints clean help

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --no-input --constraint constraints.txt
MANIFESTS := pyproject.toml $(wildcard core/pyproject.toml testkit/pyproject.toml plugins/*/pyproject.toml)
PYTEST_ARGS ?= -n 3 --dist worksteal

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -8

# The environment with the build backend: editable builds below then need no isolated environment each.
$(VENV)/.made: tools/find_python.sh
	@test -x $(PY) && $(PY) -c '' || { \
	  python=$$(tools/find_python.sh) || exit 1; \
	  echo "making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); }
	@$(PIP) hatchling editables
	@touch $@

# What a user gets: the core and the default plugins.
$(VENV)/.run: $(VENV)/.made constraints.txt $(MANIFESTS)
	@echo "installing the core and the default plugins into $(VENV)"
	@$(PIP) --no-build-isolation -e . $$($(PY) tools/workspace.py list --default | sed 's|^|-e ./|')
	@touch $@

# What a developer needs: every distribution and the tools.
$(VENV)/.dev: $(VENV)/.made constraints.txt requirements-dev.txt $(MANIFESTS)
	@echo "installing every distribution and the development tools into $(VENV)"
	@$(PIP) --no-build-isolation --requirement requirements-dev.txt
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run
	@rm -rf demo-output
	@$(PY) tools/demo.py

test: $(VENV)/.dev
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	@$(PY) tools/workspace.py import-rules > $(VENV)/import-rules.ini
	$(VENV)/bin/lint-imports --config $(VENV)/import-rules.ini --no-cache
	$(PY) tools/workspace.py check

docs: $(VENV)/.dev
	$(PY) -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheels: $(VENV)/.made
	@rm -rf dist
	@$(PY) -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist \
	  . $$($(PY) tools/workspace.py list | sed 's|^|./|')
	@ls dist

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Writes what is installed now; run it in an environment that holds nothing but `make test`'s packages.
constraints: $(VENV)/.dev
	$(PY) tools/workspace.py constraints

clean:
	rm -rf $(VENV) dist demo-output docs/_build .mypy_cache .ruff_cache .pytest_cache
