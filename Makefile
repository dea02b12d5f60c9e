# What a newcomer and a developer run. Each target first sets up .venv, where it is missing or
# pyproject.toml is newer than what was installed.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
TOO_OLD := collegium needs Python 3.11 or newer; name one: make PYTHON=python3.12

.PHONY: demo test check docs clean

demo: $(STAMP)
	$(VENV)/bin/collegium demo --overwrite

test: check
	scripts/test

check: $(STAMP)
	scripts/check

docs: $(VENV)/.docs
	scripts/site

$(VENV)/.docs: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(TOO_OLD)")'
	@echo "setting up $(VENV), which takes a minute or two"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) site .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
