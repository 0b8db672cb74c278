# `make demo`, `make test` and `make dist` work as the first command on a fresh clone: they need python3
# (3.11 or later, with venv) and make.  Everything else goes into .venv, and what builds packages into
# build.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

TOOLS := build/venv
TOOL := $(TOOLS)/bin/python

# What a target is told: `make test TESTS=tests/ssh ARGS="-k rekey"`.
TESTS =
ARGS =

# How long `make fuzz` tries, in all, and which target: all of them, where none is named.
SECONDS ?= 60
TARGET ?=

# Debian's name of the architecture that an image is for: amd64 or arm64.
ARCH ?= amd64

# Some write the same files.
.NOTPARALLEL:

.PHONY: demo fleet-demo test peers check format coverage fuzz profile man lock image-lock audit dist image packages rebuild release clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@$(BIN)/python scripts/demo.py

# Three nodes, Redis, HAProxy and a client; then one node is killed.
fleet-demo: $(VENV)/installed-fleet
	@$(BIN)/python -m scripts.fleet_demo

# All tests are shared out to two processes, file by file; those in TESTS run in one.
test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(if $(TESTS),,-n 2 --dist loadfile --no-loadscope-reorder) $(ARGS) $(TESTS)

# The programs of others that tests talk to: installs what is missing, as root on Debian.
peers:
	@$(PYTHON) scripts/peers.py

check: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_figures.py
	$(BIN)/python scripts/check_public_types.py

format: $(VENV)/installed-check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/installed-test
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

# Inputs made up by coverage (atheris), for all that reads what a peer sends: tests/fuzz/targets.
# `make fuzz SECONDS=600 TARGET=gob` is for one of them.  What is found is in build/fuzz/TARGET/found
# and printed with how to see it again; the status says whether there was anything.  What was learnt
# is in build/fuzz/TARGET/corpus for the next time.
fuzz: $(VENV)/installed-fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET))

# What a server and a client do while bulk goes through them; `make profile ARGS=--help`.
profile: $(VENV)/installed
	@$(BIN)/python -m bench.profiling $(ARGS)

# One page for the program and one for each command, in build/man: `man -l build/man/cotun-trio.1`.
man: $(VENV)/installed
	@rm -rf build/man
	@$(BIN)/python -m scripts.man_pages build/man

# Says what is missing, or makes the commit, the tag and the packages; publishes nothing.
# `make release VERSION=0.2.0 ARGS=--dry-run` only looks.
release: $(VENV)/bin/python
	@$(BIN)/python -m scripts.release $(VERSION) $(ARGS)

# Exact versions with hashes of all that packages carry, and of what builds them: what is there stays,
# where pyproject.toml allows it.  `make lock ARGS=--upgrade` takes the newest ones.
lock: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.lock $(ARGS)

# The same of Debian's packages in the image: the newest ones.  It needs Debian's apt, and no root.
# `make image-lock ARGS=--check` only says whether there are newer ones than those of the lock.
image-lock: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.debian $(ARGS)

# Whether anything in the lock is known to be vulnerable, as far as pip-audit can tell.
audit: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.audit $(ARGS)

# The sdist, the wheel that is made from it, and one file with that and all that it needs; beside each
# of them, NAME.cdx.json says what is in it.  The same bytes come out each time.
dist: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.dist
	@ls -l dist

# The OCI image, as an archive: docker load --input FILE, podman load, skopeo copy oci-archive:FILE.
# `make image ARCH=arm64` makes it for the other architecture.
image: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.image --arch $(ARCH) $(ARGS)

# The deb and the rpm; for the Python of another system, see scripts/packaging/system_packages.py.
# The same bytes come out each time.
packages: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.system_packages
	@ls -l dist

# Builds the last commit once more in another directory, and compares with dist: all that is there,
# or `make rebuild ARGS=dist`.
rebuild: $(TOOLS)/installed
	@$(TOOL) -m scripts.packaging.rebuild $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .*_cache

$(VENV)/bin/python $(TOOL):
	@command -v $(PYTHON) >/dev/null || { echo "cotun-trio needs Python 3.11 or later, and there is no '$(PYTHON)' here."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cotun-trio needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): say make PYTHON=python3.11."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "cotun-trio needs Python's venv module: install the package python3-venv."; exit 1; }
	@$(PYTHON) -m venv $(@:/bin/python=)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-test $(VENV)/installed-check: $(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable '.[test,check]'
	@touch $(VENV)/installed $(VENV)/installed-test $(VENV)/installed-check

$(VENV)/installed-fleet: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable '.[fleet]'
	@touch $(VENV)/installed $@

$(VENV)/installed-fuzz: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable '.[fuzz]'
	@touch $(VENV)/installed $@

$(TOOLS)/installed: scripts/packaging/tools.lock | $(TOOL)
	@echo "installing what builds packages into $(TOOLS) ..."
	@$(TOOL) -m pip --quiet --disable-pip-version-check install --no-compile --require-hashes \
		--only-binary :all: --requirement $<
	@touch $@
