# `make repro` runs the pipeline, and `make test` the tests. Both set up the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

.PHONY: repro push pull doctor test lint bench readme lock clean

repro: $(VENV)/installed
	@python -m labbook check && python -m labbook repro $(if $(JOBS),--jobs $(JOBS))
	@echo "report: reports/index.html   tables: reports/tables/"

push: $(VENV)/installed  # push results to the team's remote: docs/teams.md
	python -m labbook.team push $(if $(REMOTE),--remote $(REMOTE))

pull: $(VENV)/installed  # fetch results from the team's remote
	python -m labbook.team pull $(if $(REMOTE),--remote $(REMOTE))

doctor: $(VENV)/installed  # REPAIR=1 also repairs problems, REMOTE=team also hashes the objects on the remote
	python -m labbook.doctor $(if $(REPAIR),--repair) $(if $(REMOTE),--remote $(REMOTE))

test: $(VENV)/installed
	python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed
	ruff format --check .
	ruff check .
	mypy

bench: $(VENV)/installed
	python benchmarks/engine.py
	python benchmarks/colour.py
	python benchmarks/numpy_layers.py

readme: $(VENV)/installed  # generate the tables in results/ and README.md from the ledger, results/official/
	python -m labbook results

lock:  # rewrite requirements.lock from the installed packages
	python tools/lock.py

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:  # remove outputs, but not DVC's cache; `dvc checkout` restores them
	rm -rf code data/raw data/processed data/pretrained models reports figures timing dvc_plots .checkpoints .downloads
	rm -rf plots/explained plots/samples
