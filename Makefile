# `make demo` and `make test` set up everything they need in .venv; nothing else is installed.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test check clean

demo: .venv/demo  ## train a translation model on real data, score, export and use it
	$(BIN)/python -m recipes.translation --minutes 6 --output saved_models/demo-en-de

test: .venv/test  ## the whole test suite
	$(BIN)/python -m pytest

check: .venv/dev  ## what CI runs: lint, format, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/demo: .venv/bin/python setup.cfg
	@echo "Installing kzoo into .venv ..."
	$(BIN)/python -m pip install --quiet --editable '.[recipes,metrics,plots]'
	@touch $@

.venv/test: .venv/bin/python setup.cfg
	@echo "Installing kzoo with its test tools into .venv ..."
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

.venv/dev: .venv/bin/python setup.cfg
	@echo "Installing kzoo with its test tools, ruff and PyTorch (reference tests) into .venv ..."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info
