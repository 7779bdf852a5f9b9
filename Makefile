# `make repro` runs the whole pipeline, `make test` the tests; both set up the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

.PHONY: repro push pull doctor test lint bench readme lock clean

repro: $(VENV)/installed
	@python -m labbook check && python -m labbook repro $(if $(JOBS),--jobs $(JOBS))
	@echo "report: reports/index.html   tables: reports/tables/"

push: $(VENV)/installed  # results to the team's remote, docs/teams.md
	python -m labbook.team push $(if $(REMOTE),--remote $(REMOTE))

pull: $(VENV)/installed
	python -m labbook.team pull $(if $(REMOTE),--remote $(REMOTE))

doctor: $(VENV)/installed  # `make doctor MEND=1` mends, `make doctor REMOTE=team` reads all of the remote too
	python -m labbook.doctor $(if $(MEND),--mend) $(if $(REMOTE),--remote $(REMOTE))

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

readme: $(VENV)/installed  # write the tables under results/ and in README.md from the ledger, results/official/
	python -m labbook results

lock:  # write requirements.lock anew from what is installed
	python tools/lock.py

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:  # what the pipeline made, but for DVC's cache; `dvc checkout` brings it back
	rm -rf code data/raw data/processed data/pretrained models reports figures timing dvc_plots .checkpoints .downloads
	rm -rf plots/explained plots/samples
