# `make demo` and `make test` need Python 3.11+ and pip, nothing else. Each has an environment of its own that holds what
# this file says and no more, so that neither hides what the other lacks. VENV=DIR names another place for it.
PYTHON ?= python3
DEMO_VENV = $(or $(VENV),.venv)
DEV_VENV = $(or $(VENV),.venv-dev)
DOCS_VENV = $(or $(VENV),.venv-docs)
DEMO = $(DEMO_VENV)/.holds-core
DEV = $(DEV_VENV)/.holds-dev
DOCS = $(DOCS_VENV)/.holds-docs
BIN = $(DEV_VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: demo test slow lint types layers docs clean

demo: $(DEMO)
	$(DEMO_VENV)/bin/langevin demo $(if $(DEMO_MINUTES),--minutes $(DEMO_MINUTES))

test: $(DEV) lint types layers
	$(BIN)/python -m pytest -n auto --dist loadfile

slow: $(DEV)
	$(BIN)/python -m pytest -m slow

lint: $(DEV)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

types: $(DEV)
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(DEV)
	$(BIN)/lint-imports

docs: $(DOCS)
	$(DOCS_VENV)/bin/mkdocs build

# DIR/.holds-EXTRA: an environment with this package and that extra, or with its core dependencies alone
$(sort $(DEMO) $(DEV) $(DOCS)): pyproject.toml
	@$(foreach other,$(filter-out $@,$(wildcard $(@D)/.holds-*)),echo "$(@D) holds another extra ($(other)): remove it, or name another place with VENV=DIR"; exit 1;)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "langevin needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; choose another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable '.$(patsubst .holds-%,[%],$(filter-out .holds-core,$(@F)))'
	@touch $@

clean:
	rm -rf .venv .venv-dev .venv-docs build src/*.egg-info
