# Fresh machine: Python 3.11 or newer and make. `make demo` and `make test` set up by themselves.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check fmt proto lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready  ## virtual environment, pinned packages, Java runtime, Kafka, Flink and Beam artifacts
	@$(BIN)/horizon fetch

.venv/.ready: requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## the main job from nothing to the comparison (DATA=file adds a capture)
	@$(BIN)/horizon demo $(if $(DATA),--data $(DATA))

test: setup  ## the tests
	@$(BIN)/python -m pytest -q -m "not slow"

test-all: setup  ## the tests and the slow fault runs
	@$(BIN)/python -m pytest -q

check: .venv/.ready  ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: .venv/.ready  ## format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/.ready  ## generate schemas/market_data_pb2.py
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. schemas/market_data.proto

lock:  ## resolve requirements.in into requirements.txt (needs pip-tools)
	pip-compile --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --strip-extras -o requirements.txt requirements.in

clean:  ## remove the environment and what runs left behind
	rm -rf .venv .horizon
