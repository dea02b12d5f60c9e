# What a newcomer and a developer run. Each target first sets up .venv, where it is missing or what
# it depends on is newer than what was installed. `demo` installs the package alone, the others the
# development tools too.
PYTHON ?= python3
VENV := .venv
PACKAGE := $(VENV)/.package
DEV := $(VENV)/.dev
DOCS := $(VENV)/.docs
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TOO_OLD := collegium needs Python 3.11 or newer; name one: make PYTHON=python3.12

.PHONY: demo test check docs clean

demo: $(PACKAGE)
	$(VENV)/bin/collegium demo --overwrite

test: check
	scripts/test

check: $(DEV)
	scripts/check

docs: $(DOCS)
	scripts/site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(TOO_OLD)")'
	$(PYTHON) -m venv $(VENV)

$(PACKAGE): $(REQUIREMENTS) | $(VENV)/bin/python
	@echo "installing collegium into $(VENV), which takes a minute"
	$(INSTALL) -e .
	@touch $@

$(DEV): $(REQUIREMENTS) | $(VENV)/bin/python
	@echo "installing collegium and its development tools into $(VENV), which takes a minute or two"
	$(INSTALL) -e ".[dev]"
	@touch $@ $(PACKAGE)

$(DOCS): $(DEV)
	$(INSTALL) -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) site .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
