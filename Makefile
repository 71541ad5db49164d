PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := ti_qat hwsim deploy benchmarks tests examples

.PHONY: setup demo test test-onnxruntime check lint format clean

setup: $(VENV)/ready

# The C++ operators are compiled by the package's own build, so their sources are prerequisites too.
$(VENV)/ready: pyproject.toml .ci/constraints.txt $(shell find deploy/csrc -type f)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/ti-qat run examples/movie_reviews/config.toml --out runs/movie_reviews

test: setup lint
	$(BIN)/python -m pytest

# Bundles on every supported ONNX Runtime, each in an environment of its own under build/.
test-onnxruntime: setup
	$(BIN)/python -m tests.deploy.onnxruntime_matrix

check: setup lint
	$(BIN)/python -m pytest -m 'not slow'

lint:
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/clang-format --dry-run --Werror $$(find deploy/csrc examples/cpp tests/deploy/csrc -name '*.cpp' -o -name '*.h')
	$(BIN)/mypy
	$(BIN)/lint-imports

format:
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $$(find deploy/csrc examples/cpp tests/deploy/csrc -name '*.cpp' -o -name '*.h')

clean:
	rm -rf $(VENV) build runs deploy/runtime/lib
