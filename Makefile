.PHONY: run test check format lint types agents peers bench soak clean
PYTHON ?= python3
BIN := .venv/bin

run: .venv/ready          ## set up and play the demo
	@$(BIN)/understudy demo

test: .venv/ready         ## set up and run the tests
	$(BIN)/python -m pytest -q

check: lint types test    ## everything CI runs

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/mypy

agents: .venv/ready       ## real agents, end to end, against an imitation of the model's API
	$(BIN)/python -m tests.agents.run

peers: .peers/ready       ## install the peers that `make bench` runs beside us (some 300 MB)

bench: .venv/ready        ## speed of the installed wheel, each figure beside its floor or peer
	@rm -rf build
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@test -d .bench || $(PYTHON) -m venv .bench
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check build/wheel/*.whl
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl
	.bench/bin/python -m bench.run

soak: .venv/ready         ## long property tests
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -q tests/test_sim.py --timeout 3600

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info .coverage* .*_cache .hypothesis .agents .peers .bench

.venv/ready: pyproject.toml
	@echo "setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.peers/ready: Makefile
	@echo "setting up .peers (once) ..."
	@$(PYTHON) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check xoscar ray
	@touch $@
