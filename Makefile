# Everything a person or a machine runs. A fresh clone needs python3 (3.11 or newer), GNU make and a C compiler.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
# A package index can fail for a moment: three tries, then give up.
TRY3 = tries=0; until $(1); do tries=$$((tries+1)); [ $$tries -lt 3 ] || exit 1; echo "trying again ($$tries)" >&2; sleep 5; done

.PHONY: help demo mixed test check format lint types layers compat servers stress cassettes prove bench bench-full profile gate micro growth serve clean

help:
	@echo "make demo    see it work: simulated backend, relay, streamed turns in both protocols"
	@echo "make test    the tests"
	@echo "make check   format, lint, types, layers, tests"
	@echo "make compat  real agents (installed from npm) against relay and simulated backend"
	@echo "make servers real OpenAI-compatible servers (installed from the package index) behind the relay"
	@echo "make mixed   a conversation between a local model and Codex: compaction on, off, still off"
	@echo "make stress  three relays and a fourth program share accounts, 1,000 expiries, kill -9, clients that leave (15 minutes)"
	@echo "make cassettes  are the recordings sound, and without secrets?"
	@echo "make prove   a whole relay, cut everywhere and cancelled everywhere, in virtual time"
	@echo "make bench   the relay beside yardsticks, as ratios: a minute (make bench-full: everything, a quarter of an hour)"
	@echo "make profile what the relay's time goes to, room by room (ARGS='--only first-event')"
	@echo "make gate    has a change made the relay dearer?"
	@echo "make micro   the time of single functions (ARGS='--only Pool', '-o before.json')"
	@echo "make growth  is a unit of work as cheap when there is more of everything? (ARGS=--full: half an hour)"
	@echo "make serve   start the relay on http://127.0.0.1:8787 (ARGS='--port 0' and the like)"
	@echo "make clean   remove what the other targets made"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call TRY3,PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip)
	@$(call TRY3,PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev)
	@touch $@

demo: $(READY)
	@$(BIN)/python -m harness demo

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

check: format lint types layers test

format: $(READY)
	@$(BIN)/ruff format --check .

lint: $(READY)
	@$(BIN)/ruff check .

types: $(READY)
	@$(BIN)/mypy

layers: $(READY)
	@$(BIN)/lint-imports

compat: $(READY)
	@$(BIN)/python -m harness compat --hermetic=auto $(ARGS)

servers: $(READY)
	@$(BIN)/python -m harness servers $(ARGS)

mixed: $(READY)
	@$(BIN)/python -m harness mixed

stress: $(READY)
	@$(BIN)/python -m harness stress $(ARGS)

prove: $(READY)
	@$(BIN)/python -m harness prove $(if $(ARGS),$(ARGS),--full)

cassettes: $(READY)
	@$(BIN)/python -m harness check cassettes
	@$(BIN)/python -m harness scan cassettes

# What only pictures, profiles and timings need, on top: they do without where it cannot be installed.
$(BENCH_READY): $(READY)
	@if PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 --group bench; \
	then touch $@; else echo "the group bench cannot be installed now: no PNG, no make micro, and profiles by other means" >&2; fi

bench: $(BENCH_READY)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(BENCH_READY)
	@$(BIN)/python -m benchmarks --full $(ARGS)

profile: $(BENCH_READY)
	@$(BIN)/python -m benchmarks.profiling $(ARGS)

gate: $(READY)
	@$(BIN)/python -m benchmarks.gate

micro: $(BENCH_READY)
	@$(BIN)/python -m benchmarks.micro $(ARGS)

growth: $(BENCH_READY)
	@$(BIN)/python -m benchmarks.growth $(ARGS)

serve: $(READY)
	@$(BIN)/codexrelay serve $(ARGS)

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
