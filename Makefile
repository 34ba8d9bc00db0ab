# make demo | test | bench | lint | endurance | clean. The first one that is run makes .venv, from setup.py alone.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEMO := demo-workspace

.PHONY: demo test bench lint endurance clean
.NOTPARALLEL:

demo: $(INSTALLED)  ## a workspace with made-up feeds, two nights, and what each person gets
	rm -rf $(DEMO)
	$(VENV)/bin/callward demo $(DEMO)

test: $(INSTALLED)
	$(RUN) -m pytest -m "not endurance"

endurance: $(INSTALLED)  ## long campaigns: fifty nights killed at random
	$(RUN) -m pytest -m endurance

bench: $(INSTALLED)
	$(RUN) -m bench.bench

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) .ci/licences.py

clean:  ## what make made; workspaces of your own are not touched
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Beam and pyarrow are resolved together, once: again only when setup.py changes.
$(INSTALLED): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "callward needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
		{ echo "python cannot make a .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@
