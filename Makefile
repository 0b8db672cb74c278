# `make demo` and `make test` work as the first command on a fresh clone: they need python3 (3.11 or
# later, with venv) and make.  Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test check format coverage clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@$(BIN)/python scripts/demo.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

check: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/installed-test
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .*_cache

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "cotun-trio needs Python 3.11 or later, and there is no '$(PYTHON)' here."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cotun-trio needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): say make PYTHON=python3.11."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "cotun-trio needs Python's venv module: install the package python3-venv."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-test $(VENV)/installed-check: $(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable '.[test,check]'
	@touch $(VENV)/installed $(VENV)/installed-test $(VENV)/installed-check
