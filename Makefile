PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs quick test check test-gpu bench release-check clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[models,interop,dev,docs]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/supsup demo --out demo

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

quick: $(VENV)/.installed
	$(BIN)/python -m pytest tests -m "not slow" -n 2 --dist loadfile --benchmark-disable

test: $(VENV)/.installed
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --benchmark-disable

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-gpu: $(VENV)/.installed
	$(BIN)/python -m pytest tests -m gpu

bench: $(VENV)/.installed
	$(BIN)/python -m pytest benchmarks

release-check:
	PYTHON=$(PYTHON) bash .ci/release

clean:
	rm -rf build dist demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
