# Every target sets up .venv by itself; a second call finds it ready and installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RELEASE := .venv-release

.PHONY: help setup run test test-browser test-wheel test-real test-soak test-gpu fuzz check format docs bench weights release dist clean
help:
	@echo "make setup         make .venv with the exact tested versions"
	@echo "make run           every task in turn on small sample data, then the scoreboard"
	@echo "make test          the tests that need no internet, no data and no browser, in two processes"
	@echo "make test-browser  demo and site in a real browser: installs Gradio, and Debian's Chromium where there is none"
	@echo "make test-wheel    build the wheel and test it offline, without the repository, in an environment of its own"
	@echo "make test-real     tests on real data (in the folder DECATHLON_DATA)"
	@echo "make test-soak     long tests: whole recipes, hundreds of kills, many inputs, a loaded demo (two hours of one slow core)"
	@echo "make test-gpu      every task on the GPU of this machine, on the sample data (skipped without one)"
	@echo "make fuzz          coverage-guided fuzzing of the readers, a minute each"
	@echo "make check         lint, format, types, licences of the packages, and whether the READMEs' scoreboards are up to date"
	@echo "make docs          build the documentation as a static, searchable site: site/index.html"
	@echo "make weights       train and pack the weights that ship (real data needed; about eight hours)"
	@echo "make release       build and test the wheel with newly installed packages, and write their list (SBOM): dist/"
	@echo "make bench         what the input pipeline costs, RoBERTa's tokens per second"

setup: $(READY)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY)
	$(BIN)/decathlon all --data sample

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --ignore=tests/real --ignore=tests/soak --ignore=tests/browser --ignore=tests/wheel --ignore=tests/gpu

test-browser: $(VENV)/.ready-browser
	$(BIN)/python -m pytest -q tests/browser

$(VENV)/.ready-browser: $(READY)
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	@touch $@

dist: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,demo,release]'
	$(BIN)/pip-licenses --summary  # of the demo and the release's tools, too
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

test-wheel: dist
	$(BIN)/python -m pytest -q tests/wheel

test-real: $(READY)
	@test -n "$$DECATHLON_DATA" || { echo "set DECATHLON_DATA to a folder with real data"; exit 1; }
	$(BIN)/python -m pytest -q -n 2 tests/real

test-soak: $(VENV)/.ready-browser
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[sweep]'
	$(BIN)/pip-licenses --summary
	$(BIN)/python -m pytest -q tests/soak

test-gpu: $(READY)
	DECATHLON_TEST_DEVICE=cuda $(BIN)/python -m pytest -q tests/gpu

fuzz: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[fuzz]'
	for target in fuzz/*.py; do $(BIN)/python $$target -max_total_time=60 || exit 1; done

docs: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	$(BIN)/python tools/build_site.py

weights: $(READY)
	$(BIN)/python tools/weights.py

release: dist
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[demo,export]"
	DECATHLON_WHEEL_VENV=$(RELEASE) $(BIN)/python -m pytest -q tests/wheel
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json $(RELEASE)/bin/python

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pip-licenses --summary
	$(BIN)/decathlon scoreboard --check README.md
	$(BIN)/decathlon scoreboard --check README.ru.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python bench/input_pipeline.py
	$(BIN)/python bench/tokens_per_second.py

clean:
	rm -rf $(VENV) $(RELEASE) dist .mypy_cache .ruff_cache .pytest_cache
