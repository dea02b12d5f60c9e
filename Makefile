# What a developer and a newcomer run; each target sets up .venv where it is missing.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test check clean

demo: $(STAMP)
	$(VENV)/bin/collegium demo --overwrite

test: $(STAMP)
	scripts/check
	scripts/test

check: $(STAMP)
	scripts/check

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
