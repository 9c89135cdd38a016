# Every target sets up what it needs: a fresh machine has python3 (3.10-3.13), its venv module and g++.
PYTHON ?= python3
PYTHONS ?= 3.10 3.12 3.13
PYTEST_ARGS ?=

BIN := .venv/bin
PEER := .venv-peer/bin
# Two test processes on two cores: idle OpenMP threads must sleep, not spin on the other's core.
export OMP_WAIT_POLICY ?= passive
SUITE := -n 2 -m "not peer and not gpu" --ignore=tests/peer

.PHONY: demo test test-fast test-peer conformance conformance-compiled test-pythons bench bench-quick lint typecheck clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /'

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$@ -m pip install -q -U pip "setuptools>=77" wheel

.venv/.ready-demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[demo]"
	@touch $@

.venv/.ready-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q -e ".[dev]"
	@touch $@

.venv-peer/bin/python:
	$(PYTHON) -m venv .venv-peer
	$@ -m pip install -q -U pip "setuptools>=77" wheel

.venv-peer/.ready: pyproject.toml | .venv-peer/bin/python
	$(PEER)/python -m pip install -q -e ".[peer,demo]" "pytest>=8" pytest-xdist pytest-timeout hypothesis
	@touch $@

demo: .venv/.ready-demo  ## train the digits model eagerly and compiled; writes demo-output/
	$(BIN)/python examples/digits/train.py

test: .venv/.ready-dev lint typecheck  ## everything that needs no torch
	$(BIN)/python -m pytest $(SUITE) $(PYTEST_ARGS)

test-fast: .venv/.ready-dev  ## the ordinary tests without the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow and not peer and not gpu" --ignore=tests/peer $(PYTEST_ARGS)

test-peer: .venv-peer/.ready  ## compare with PyTorch, in an environment of its own
	$(PEER)/python -m pytest -n 2 tests/peer $(PYTEST_ARGS)

conformance: .venv-peer/.ready  ## PyTorch's databases of operators, modules and optimizers run in flambeau; scores into README
	$(PEER)/python -m tests.conformance --area ops,modules,optim --readme

conformance-compiled: .venv-peer/.ready  ## the same operators compiled as one graph, beside eager
	$(PEER)/python -m tests.conformance --area compiled

test-pythons:  ## tracer, corpus, op and packaging tests on $(PYTHONS)
	scripts/test-pythons $(PYTHONS)

bench: .venv-peer/.ready  ## flambeau beside torch, one interleaved run; writes benchmarks/results/
	$(PEER)/python benchmarks/run.py

bench-quick: .venv-peer/.ready  ## the same with few repetitions, writing nothing
	$(PEER)/python benchmarks/run.py --quick --no-write

lint: .venv/.ready-dev  ## ruff
	$(BIN)/ruff check .

typecheck: .venv/.ready-dev  ## mypy over the package as it is installed
	scripts/typecheck $(CURDIR)/$(BIN)/python

clean:  ## remove what was built, keep the environments
	rm -rf build dist *.egg-info demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
