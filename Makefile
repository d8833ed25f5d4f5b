# The two commands of the README, and what they are made of. Needs make and Python 3.11+ with venv, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .cache/peers
# The pins of constraints.txt were tested together on 3.11 alone; other versions of Python resolve for themselves.
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] in ((3, 11),) else "")')

.PHONY: demo test lint bench peers clean

demo: $(VENV)/core.stamp
	$(BIN)/python experiments/demo.py --workdir=runs/demo

# A process for each core, up to four: most of the suite is tracing and compiling, which use one core each.
test: $(VENV)/dev.stamp lint
	$(BIN)/python -m pytest -n logical --maxprocesses=4 --dist=loadscope

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything that docs/performance.md tells, held against its record; minutes, on a machine that does nothing else.
bench: $(VENV)/core.stamp peers
	$(BIN)/python benchmarks/bench.py

peers: $(PEERS)/made.stamp

$(PEERS)/made.stamp: benchmarks/peers/requirements.txt benchmarks/peers/packages.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -r benchmarks/peers/requirements.txt
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps -r benchmarks/peers/packages.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e . $(CONSTRAINTS)
	touch $@

$(VENV)/dev.stamp: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' $(CONSTRAINTS)
	touch $@ $(VENV)/core.stamp

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
