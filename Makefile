# make lab    set up, and open the quickstart in JupyterLab
# make test   set up, and run the checks and tests; make test-slow: those that take long
# make bench  measure what the README's tables say: five hours; in parts:
# make bench-game, bench-panel  the game's (five minutes), the panel's (an hour)
# make bench-learner  how good each preset gets, and how soon (four hours); stopped, it
#             goes on by: .venv/bin/python -m benchmarks.learner --resume
# make bench-soak  whether an hour's streaming leaves memory as it was (an hour)
# make faults break a run in every way we know, and print what held (half an hour)

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PIP := $(BIN)/pip install --quiet -c constraints.txt

.PHONY: lab test test-slow bench bench-game bench-panel bench-learner bench-soak \
  faults lint fresh screenshots

lab: $(VENV)/.lab
	$(BIN)/tetris-widget lab

test: lint fresh $(VENV)/.chromium
	npm test
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: bench-game bench-panel bench-learner

bench-game: $(VENV)/.bench
	$(BIN)/python -m benchmarks.game

bench-panel: $(VENV)/.chromium
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.browser

bench-learner: $(VENV)/.dev
	$(BIN)/python -m benchmarks.learner

bench-soak: $(VENV)/.chromium
	$(BIN)/python -m benchmarks.soak

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults

lint: $(VENV)/.dev node_modules/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	npm run check

# The committed front end must be the one that its source makes.
fresh: node_modules/.installed
	rm -rf build/static
	node js/build.mjs build/static
	@diff -r build/static tetris_widget/panel/static || \
	  (echo "tetris_widget/panel/static is stale: run 'npm run build' and commit" && exit 1)

screenshots: $(VENV)/.chromium
	$(BIN)/python -m scripts.screenshots

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[lab]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	touch $@

# Others' environments, to compare with: what does not install is left out.
$(VENV)/.bench: $(VENV)/.dev
	-for peer in peers jumanji rl-tetris; do $(PIP) -e ".[$$peer]"; done
	touch $@

$(VENV)/.chromium: $(VENV)/.dev
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  (apt-get update -qq && apt-get install -y -qq chromium) || \
	  (echo "the browser tests need Chromium (Debian package chromium)" && exit 1)
	touch $@

node_modules/.installed: package.json package-lock.json
	# Not `npm ci`: it wants other platforms' packages in the lock file, too, which
	# `npm install` leaves out (https://github.com/npm/cli/issues/4828).
	npm install --no-save --no-audit --no-fund
	touch $@
