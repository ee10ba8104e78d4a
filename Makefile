# Every target sets up .venv by itself; a second call finds it ready and installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup run test test-real check format bench clean
help:
	@echo "make setup      make .venv with the exact tested versions"
	@echo "make run        every task in turn on small sample data, then the scoreboard"
	@echo "make test       the whole test suite, no network and no data needed"
	@echo "make test-real  tests on real data (DECATHLON_DATA says where it lies)"
	@echo "make check      lint, format, types, and whether README's scoreboard is fresh"
	@echo "make bench      what the input pipeline costs, how fast RoBERTa reads"

setup: $(READY)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY)
	$(BIN)/decathlon all --data sample

test: $(READY)
	$(BIN)/python -m pytest -q --ignore=tests/real

test-real: $(READY)
	$(BIN)/python -m pytest -q tests/real

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/decathlon scoreboard --check README.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python bench/input_pipeline.py
	$(BIN)/python bench/pieces_per_second.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
