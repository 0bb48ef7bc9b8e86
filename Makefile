# `make` alone lists the targets. Needed beforehand: make and Python 3.11, 3.12 or 3.13; everything else is fetched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FLOORS := schemas transforms pipelines runners
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP_OUTPUT := $(shell test -t 1 || echo -qq)

.PHONY: help
help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED)  ## Python packages, Java runtime, Kafka, Flink and Beam, all pinned and checked by hash
	@$(BIN)/python -m runners.commands.fetch

$(INSTALLED): requirements.txt setup.py pyproject.toml
	@test -x $(BIN)/python || { \
	  for python in python3.11 python3.12 python3.13 python3; do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  test -n "$$found" || { echo "no Python 3.11, 3.12 or 3.13 on PATH; install one, then run make setup again" >&2; exit 1; }; \
	  $$found -m venv .venv; }
	@echo "installing the pinned Python packages into .venv" >&2
	@$(BIN)/python -m pip install $(PIP_OUTPUT) --disable-pip-version-check --log .venv/pip.log --retries 2 \
	    --require-hashes -r requirements.txt || { \
	  echo "cannot install the Python packages: $$(grep -oE 'No matching distribution found for [^ ]+|HASHES? .*|No space left.*' .venv/pip.log | tail -n 1)" \
	    "- is the package index within reach? Details: .venv/pip.log" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: setup  ## events in, the live job on Flink, the replay, the proof that both are equal; DATA=FILE adds a capture
	@$(BIN)/horizon demo $(if $(DATA),--data "$(DATA)")

.PHONY: test
test: setup  ## the tests that take less than a few minutes together
	@$(BIN)/python -m pytest -m "not slow"

.PHONY: test-all
test-all: setup  ## all tests, the fault runs too
	@$(BIN)/python -m pytest

MINUTES := 10

.PHONY: fuzz
fuzz: $(INSTALLED)  ## coverage-guided fuzzing of decode and check; MINUTES=N, 10 by default
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-fuzz.txt
	@mkdir -p .fuzz/corpus
	@PYTHONPATH=. $(BIN)/python tests/fuzz/fuzz_decode.py -max_total_time=$$((60 * $(MINUTES))) -len_control=0 \
	    -max_len=1500 -print_final_stats=1 -artifact_prefix=.fuzz/ .fuzz/corpus

.PHONY: check
check: $(INSTALLED)  ## lint, format and types, as CI runs them
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict $(addprefix -p ,$(FLOORS))

.PHONY: fmt
fmt: $(INSTALLED)  ## format the code and sort the imports
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: proto
proto: $(INSTALLED)  ## generate the Python code of the protobuf schema
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. schemas/market_data.proto

.PHONY: lock
lock: $(INSTALLED)  ## resolve requirements.in into requirements.txt with hashes
	@test -x .venv/lock/bin/pip-compile || { $(BIN)/python -m venv .venv/lock && .venv/lock/bin/pip install -q pip-tools; }
	@CUSTOM_COMPILE_COMMAND="make lock" .venv/lock/bin/pip-compile -q --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements.txt requirements.in
