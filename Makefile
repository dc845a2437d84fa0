# make train   a first run: installs, renders the synthetic benchmark, trains, evaluates, draws
# make test    installs if needed, then lint, types and tests with coverage
# make test-long   slower tests: many whole runs, timings
# make docs    the site of README and docs into site/, strictly: no dead link
# make figures draws the pictures of README and docs again; PHOTOGRAPHS=<folder> where livestock is not in data/
# make bench   every benchmark: benchmarks/results.json and the table of docs/performance.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: train test test-long lint docs figures bench clean
train: $(VENV)/installed
	$(BIN)/geoalign train

# files in their order: whole runs first, so that neither process waits for one at the end
test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" --cov=geoalign --cov-fail-under=90 --cov-report=term:skip-covered

# many whole runs: the pages' commands, sweeps, kills; and what is timed: ratios, start-up
test-long: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m long

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

PHOTOGRAPHS ?= data/livestock
figures: $(VENV)/installed
	$(BIN)/python -m benchmarks.pictures --livestock $(PHOTOGRAPHS)

# threads that wait asleep: on a machine that others use too, spinning ones would be counted as work
bench: $(VENV)/installed
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.run

$(VENV)/installed: pyproject.toml setup.py constraints.txt docker/install.sh
	$(PYTHON) -m venv $(VENV)
	docker/install.sh $(BIN)/python sweep,demo,tensorboard,export,docs,dev
	touch $@

clean:
	rm -rf $(VENV) cache runs multirun site

include tables.mk
