.PHONY: run test check format lint types agents peers bench faults scale wheel soak clean
PYTHON ?= python3
BIN := .venv/bin

run: .venv/ready          ## set up and play the demo
	@$(BIN)/understudy demo

test: .venv/ready         ## set up and run the tests
	$(BIN)/python -m pytest -q -n auto --dist worksteal

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

peers: .peers/ready       ## install the peers that `make bench` and `make faults` run beside us (some 400 MB)

bench: wheel              ## speed of the installed wheel, each figure beside its floor or peer
	.bench/bin/python -m bench.run

faults: wheel             ## faults in the installed wheel: detected, answered again, promises kept; beside the peers
	.bench/bin/python -m bench.faults

scale: wheel              ## what the installed wheel costs with up to 2,000 agents, and up to 100,000 sessions in its log
	.bench/bin/python -m bench.scale

wheel: .venv/ready
	@rm -rf build
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@test -d .bench || $(PYTHON) -m venv .bench
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls build/wheel/*.whl)[bench]"
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl

FIRST ?= 0
COUNT ?= 20000
FRAMES ?= 10000000

soak: .venv/ready         ## the simulator for long: COUNT schedules from seed FIRST on all cores; then FRAMES of the fuzzer's
	@$(BIN)/python -m tests.sim $(FIRST) $(COUNT)
	@$(BIN)/python -m tests.fuzz $(FIRST) $(FRAMES)

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info .coverage* .*_cache .hypothesis .agents .peers .bench

.venv/ready: pyproject.toml
	@printf "setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@while sleep 1 && kill -0 $$$$ 2>/dev/null; do printf .; done & \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; status=$$?; echo; exit $$status
	@touch $@

.peers/ready: Makefile
	@echo "setting up .peers (once) ..."
	@$(PYTHON) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check xoscar ray supervisor
	@npm install --silent --no-fund --no-audit --prefix .peers/pm2 pm2 || echo "pm2 is left out: npm cannot install it"
	@(cd .peers && apt-get download --quiet runit && dpkg -x runit_*.deb runit) || echo "runit is left out: no Debian"
	@touch $@
