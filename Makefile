# Two commands: `make app` opens the page, `make test` proves that it works.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS = $(shell $(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
POCKET := $(if $(SMOKE),build/pocket-smoke,assets/pocket)

# Training allocates and frees large blocks at each step: keeping them doubles its speed with glibc.
KEEP_MEMORY := MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=1000000000

.PHONY: app test test-long test-slow test-network test-package test-hub lint pocket smol notebooks lab pictures benchmark clean

app: $(VENV)/.app $(VENV)/.smol
	$(BIN)/python app.py

# Processes of one thread each, as models this small gain nothing from more; one more than cores, as some wait for the
# browser. Before it, a browser is looked for.
PYTEST = $(BIN)/python -m tests.browser && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m

test: $(VENV)/.dev $(VENV)/.smol
	$(PYTEST) "not long and not slow and not network and not hub and not package"

# What takes tens of seconds a test: whole visits in the browser, notebooks. CI runs it too.
test-long: $(VENV)/.dev
	$(PYTEST) long

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

test-network: $(VENV)/.dev
	$(BIN)/python -m pytest -m network

# Builds the wheel, installs it into an environment of its own and uses it from an empty folder.
test-package: $(VENV)/.dev
	$(BIN)/python -m pytest -m package

test-hub: $(VENV)/.dev
	$(BIN)/python -m pytest -m hub

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# `make pocket SMOKE=1` runs every stage in miniature, into build/.
pocket: $(VENV)/.app
	$(if $(SMOKE),rm -rf build/pocket-smoke build/pocket-smoke-work)
	$(KEEP_MEMORY) $(BIN)/python -m dit_core pocket --out $(POCKET) $(if $(SMOKE),--smoke)

# Organisms, DIT adapters and an oracle on a base that others pretrained: hours, better on a GPU; goes on where it was.
smol: $(VENV)/.app
	$(KEEP_MEMORY) $(BIN)/python -m dit_core smol $(if $(SMOKE),--smoke --out build/smol-smoke)

# Runs all notebooks on the pocket suite and writes them back with their outputs.
notebooks: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m notebooks.make

# Opens them in JupyterLab.
lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks

# The pictures of the README, taken from the running page in Chromium.
pictures: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.pictures

benchmark: $(VENV)/.app
	$(BIN)/python -m benchmarks.conditions
	$(BIN)/python -m benchmarks.oracle
	$(BIN)/python -m benchmarks.scoreboard
	$(BIN)/python -m benchmarks.sweep

$(VENV)/.app: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

# The base of the suite smol, asked for once: where it can't be had, a line says so, and pocket does without.
$(VENV)/.smol: | $(VENV)/.app
	$(BIN)/python -m dit_core suites get smol || true
	touch $@

# Tests go through every extra but the embedding models, which are large.
TESTED := $(foreach extra,dev judge notebooks ray,requirements-$(extra).txt)
$(VENV)/.dev: $(VENV)/.app $(TESTED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(TESTED)) -c constraints.txt
	touch $@

# With the path file, a kernel of this environment finds the code from every folder, in VS Code too.
$(VENV)/.lab: $(VENV)/.app requirements-notebooks.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-notebooks.txt -c constraints.txt
	echo "$(CURDIR)" > "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/dit-explorer.pth"
	touch $@

clean:
	rm -rf $(VENV) build
