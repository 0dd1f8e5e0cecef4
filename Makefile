# The commands of this project; `make` alone lists them. Each works from a fresh clone on a machine
# with python3 (3.11 or newer) and nothing else: the first call makes .venv, later calls are quick.

PYTHON ?= python3
VENV ?= .venv
VENV4 ?= .venv4
VENVCLIENTS ?= .venvclients
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check

# Most tests keep one core busy. A file's tests stay in one process, which shares their fixtures.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile
EXTRAS := dev,batch,compile,openvino,ray,serve,traces,train
# What the native module is built from: when one of these changes, it is built again.
NATIVE := $(wildcard CMakeLists.txt CMakePresets.json cmake/*) $(shell find runtime/csrc -type f)
PACKAGES := bert_rt train compile runtime
CPP := $(filter %.cc %.h,$(NATIVE))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Environments

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is missing or older than 3.11; name one: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || \
	  { echo "error: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A failed build of the native module is no failed installation, but nobody should miss it.
TELL_NATIVE := $(PY) -c 'import importlib.util as u; u.find_spec("bert_rt._native") or print( \
  "note: without the native engine (`make build` shows why); ONNX Runtime answers instead")'

# Editable, so that the source tree is what runs and the native module is found from it: an
# installed copy would be hidden by the source tree wherever python starts in this directory.
$(VENV)/.runtime: $(VENV)/.made pyproject.toml $(NATIVE)
	$(PIP) install --quiet --editable .
	@$(TELL_NATIVE)
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt $(NATIVE)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@$(TELL_NATIVE)
	@touch $(VENV)/.runtime $@

# Transformers 4, which the tests' own environment cannot have beside Transformers 5.
$(VENV4)/.made: $(VENV)/.made constraints-transformers4.txt
	$(PYTHON) -m venv $(VENV4)
	$(VENV4)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement constraints-transformers4.txt
	@touch $@

# Clients of the server that pin an old protobuf, which cannot stand beside onnx.
$(VENVCLIENTS)/.made: $(VENV)/.made constraints-clients.txt
	$(PYTHON) -m venv $(VENVCLIENTS)
	$(VENVCLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement constraints-clients.txt
	@touch $@

.PHONY: venv install build wheel wheels
venv: $(VENV)/.runtime  ## Make .venv with the runtime: light, without torch

install: $(VENV)/.dev  ## Make .venv with everything that developing needs

build: $(VENV)/.made  ## Build the native module again and show what the compiler says
	BERT_RT_REQUIRE_NATIVE=1 $(PIP) install --verbose --editable .
	@touch $(VENV)/.runtime

wheel: $(VENV)/.dev  ## Build dist/*.whl with the native engine, checked and tagged by auditwheel
	rm -rf dist
	BERT_RT_REQUIRE_NATIVE=1 $(PIP) wheel --quiet --no-deps --wheel-dir dist/raw .
	PATH="$(abspath $(BIN)):$$PATH" $(PY) -m auditwheel repair --wheel-dir dist dist/raw/*.whl
	rm -r dist/raw

# zig's clang, which compiles for other systems.
$(VENV)/.wheels: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt --editable ".[$(EXTRAS),wheels]"
	@touch $@

# Compilers for both processors, Debian's Pythons and qemu, where apt-get can bring them; without,
# wheels/make.py says what it skips.
WHEEL_TOOLS := g++ g++-aarch64-linux-gnu qemu-user-static debootstrap
wheels: $(VENV)/.wheels  ## Build dist/*.whl for x86-64 and ARM64, for every Python since 3.11, and try them
	@[ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null || { apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends $(WHEEL_TOOLS) > /dev/null; } || true
	rm -rf dist
	$(PY) wheels/make.py

# A build tag such as +cpu is left out: which build of torch is taken is the machine's business.
.PHONY: constraints
constraints: $(VENV)/.made  ## Write constraints.txt anew: the newest versions that pyproject.toml admits
	$(PIP) install --quiet --upgrade --editable ".[$(EXTRAS)]"
	{ echo "# Written by \`make constraints\`: the versions that CI tests with."; \
	  $(PIP) freeze --exclude-editable | sed 's/+.*//'; } > constraints.txt
	@touch $(VENV)/.runtime $(VENV)/.dev

.PHONY: docs
docs: $(VENV)/.dev  ## Write docs/reference.md from the docstrings of the code
	$(PY) docs/generate_reference.py

.PHONY: demo
demo: $(VENV)/.runtime  ## Answer questions with the embedded model
	$(PY) -m runtime.demo

# Benchmarks: benchmarks/README.md says how, and how to bring in the peers' own quantizations.

DATA ?= ../shared/data/squad/dev-v1.1.json.gz
# Where AMX would be chosen, AVX-512 VNNI is measured as well.
BENCH_ISA ?= $(shell grep -qw avx512_vnni /proc/cpuinfo 2> /dev/null && echo avx512vnni)
BENCH = $(PY) -m runtime.bench --data $(DATA) --num_threads 2 --native_isa "$(BENCH_ISA)" $(BENCH_FLAGS)

# NNCF, which makes OpenVINO's own INT8 model.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt --editable ".[$(EXTRAS),bench]"
	@touch $@

.PHONY: bench bench-check
bench: $(VENV)/.bench  ## Measure engines side by side on the embedded model (DATA=squad.json.gz BENCH_FLAGS="--limit 200")
	mkdir -p runs
	$(BENCH) --json runs/bench.json --markdown runs/bench.md --plot runs/bench.png

bench-check: $(VENV)/.bench  ## Fail where a ratio of one run is below benchmarks/thresholds.json
	$(BENCH) --check benchmarks/thresholds.json

# Checks

.PHONY: lint format typecheck test test-all kernels cross sanitize ci
lint: $(VENV)/.dev  ## Check style, docstrings and who imports whom
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(BIN)/pydoclint --quiet $(PACKAGES)
	$(BIN)/lint-imports
	$(if $(wildcard .clang-format),$(BIN)/clang-format --dry-run --Werror $(CPP))

format: $(VENV)/.dev  ## Format the source
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(if $(wildcard .clang-format),$(BIN)/clang-format -i $(CPP))

typecheck: $(VENV)/.dev  ## Run mypy --strict
	$(PY) -m mypy

test: $(VENV)/.dev $(VENV4)/.made $(VENVCLIENTS)/.made  ## Run the tests, except those that take minutes
	$(PY) -m pytest -m "not slow" $(SIDE_BY_SIDE)

test-all: $(VENV)/.dev $(VENV4)/.made $(VENVCLIENTS)/.made  ## Run all tests
	$(PY) -m pytest $(SIDE_BY_SIDE)

kernels: $(VENV)/.dev  ## Run the tests of the native kernels
	$(PY) -m pytest tests/kernels

cross: $(VENV)/.wheels  ## Build the native engine for ARM64, run it by qemu; build it with clang, for macOS too
	$(PY) -m pytest tests/cross --timeout=1200

# TRANSFORMERS4 is the python of an environment with torch==2.13.0 and transformers==4.57.*.
.PHONY: update-golden
update-golden: $(VENV)/.dev  ## Write tests/golden/*/*.json anew (TRANSFORMERS4=PYTHON)
	$(if $(TRANSFORMERS4),,$(error TRANSFORMERS4 is not set: python of an environment with transformers 4.57))
	$(PY) -m tests.golden.pipeline.update_pipeline $(TRANSFORMERS4) ../shared/models/minilm-l6-squad
	$(PY) -m tests.golden.checkpoints.update_checkpoints $(TRANSFORMERS4)
	$(PY) -m tests.golden.spans.update_spans $(TRANSFORMERS4)
	$(PY) -m tests.golden.generation.update_generation $(TRANSFORMERS4)

sanitize: $(VENV)/.dev  ## Run the C++ tests under address, undefined-behaviour and thread sanitizers
	for preset in asan tsan; do \
	  PATH="$(abspath $(BIN)):$$PATH"; \
	  cmake --preset $$preset && cmake --build --preset $$preset && ctest --preset $$preset || exit 1; \
	done

ci: lint typecheck test  ## What has to pass before a change lands

.PHONY: clean distclean
clean:  ## Remove what was built, and caches
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## Remove the environments too
	rm -rf $(VENV) $(VENV4) $(VENVCLIENTS)
