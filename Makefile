# make test    set up what is missing, then linters, types, layers and tests
# make demo    set up what is missing, then a synthetic drive labelled by the shipped model: a video, a picture, figures
# make lint    the same without the tests
# make bench   the benchmarks, which are no part of the tests
# make setup   the set-up alone
# make clean   remove what make and the program's tools made, but not runs/
VENV ?= .venv
BIN := $(VENV)/bin
# The environment is made anew when what it is made from has changed.
STAMP := $(VENV)/.ready-$(shell cat setup.cfg pyproject.toml .ci/setup | sha256sum | cut -c1-16)
export PYTHON

.PHONY: test lint bench demo setup system clean

# Small tensors and many threads wait for each other more than they work.
test bench: export OMP_NUM_THREADS ?= 1

test: lint
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fusionseg tools
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m pytest -q -o python_files='bench_*.py' tests

demo: setup
	$(BIN)/fusionseg demo

setup: system $(STAMP)

system:
	@.ci/setup system

$(STAMP): | system
	@.ci/setup venv $(VENV) $@

clean:
	rm -rf $(VENV) build dist fusionseg.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find fusionseg tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
