# make train   a first run: installs, renders the synthetic benchmark, trains, evaluates, draws
# make test    installs if needed, then lint, types and tests with coverage
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: train test lint clean
train: $(VENV)/installed
	$(BIN)/python train.py

test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov=geoalign --cov-fail-under=90 --cov-report=term:skip-covered

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml setup.py constraints.txt docker/install.sh
	$(PYTHON) -m venv $(VENV)
	docker/install.sh $(BIN)/python lite,sweep,demo,dev
	touch $@

clean:
	rm -rf $(VENV) cache runs multirun

include tables.mk
