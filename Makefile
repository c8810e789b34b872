# `make demo` sets up and runs the main job; `make test` sets up and passes the tests.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs build clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/setmatch demo --out demo

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --max-worker-restart 0

# The site, in site/: the reference is written from the code first, so that it cannot drift.
docs: $(VENV)/installed-docs
	$(BIN)/python docs/generate_reference.py
	$(BIN)/zensical build --clean --strict

# Wheel and source distribution, in dist/, checked as the package index would.
build: $(VENV)/installed-dev
	rm -rf dist build
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*

# With the extra onnx, a demo ends with a page that runs its model in the browser.
# The stamps are newer than what they were made from, so that a second call installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[onnx]"
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@ $(VENV)/installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "setmatch needs Python 3.11 or newer as $(PYTHON); try: make PYTHON=python3.12" >&2; \
	  exit 2; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .ci/venv .ci/wheel build dist site docs/reference src/*.egg-info
