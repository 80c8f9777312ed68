# Two commands: `make app` opens the page, `make test` proves that it works.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
POCKET := $(if $(SMOKE),build/pocket-smoke,assets/pocket)

# Training allocates and frees large blocks at each step: keeping them doubles its speed with glibc.
KEEP_MEMORY := MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=1000000000

.PHONY: app test test-slow lint pocket benchmark clean

app: $(VENV)/.app
	$(BIN)/python app.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# `make pocket SMOKE=1` runs every stage in miniature, into build/.
pocket: $(VENV)/.app
	$(if $(SMOKE),rm -rf build/pocket-smoke build/pocket-smoke-work)
	$(KEEP_MEMORY) $(BIN)/python -m dit_core pocket --out $(POCKET) $(if $(SMOKE),--smoke)

benchmark: $(VENV)/.app
	$(BIN)/python -m benchmarks.conditions
	$(BIN)/python -m benchmarks.oracle

$(VENV)/.app: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/.dev: $(VENV)/.app requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) build
