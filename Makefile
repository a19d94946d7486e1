# Every command of the project; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml binding/Cargo.toml $(shell find src binding -name '*.rs')
LOOM_MAX_PREEMPTIONS ?= 3
# Where `make pythons` puts interpreters; an absolute path is written into them.
PYTHONS ?= $(CURDIR)/target/pythons
# `3.14t` is the free-threaded one.
VERSIONS ?= 3.11 3.12 3.13 3.14 3.15 3.14t
BENCH_PYTHONS ?= 3.11 3.13
SCALE ?=
# Fails unless it is run by the interpreter of a version: pyenv keeps 3.14t among 3.14.*.
IS_VERSION = -c 'import sys, sysconfig as s; sys.exit("%d.%d" % sys.version_info[:2] \
	+ "t" * bool(s.get_config_var("Py_GIL_DISABLED")) != sys.argv[1])' "$$version" 2>/dev/null
# Sets $$python to the interpreter of a version, or to nothing.
FIND_PYTHON = for python in $$HOME/.pyenv/versions/$${version%t}.*/bin/python python$$version \
		$(PYTHONS)/usr/bin/python$$version; do \
		if "$$python" $(IS_VERSION); then break; fi; python=; done

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# The environment: made once, and again when what it depends on has changed.
$(BIN)/.tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet 'maturin>=1.14,<2' --group test --group lint
	touch $@

$(BIN)/.built: $(BIN)/.tools $(RUST_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet
	touch $@

.PHONY: dev
dev: $(BIN)/.built ## build the module into .venv

# Those that cannot be had are said loudly; the other commands go on without them.
.PHONY: pythons
pythons: ## get CPython 3.14 and 3.15 from Debian, beside the system, where they are missing
	missing=; \
	for version in 3.14 3.15; do \
		$(FIND_PYTHON); \
		[ "$$python" ] || missing="$$missing $$version"; \
	done; \
	[ -z "$$missing" ] || scripts/pythons.sh $(PYTHONS) $$missing

.PHONY: demo
demo: dev ## the three usages, then a session server with a few thousand clients
	$(BIN)/python examples/usages.py
	$(BIN)/python examples/session_server.py

.PHONY: test
test: lint types test-rust test-python ## everything that must pass: lint, types, Rust and Python tests

.PHONY: test-rust
test-rust: ## tests of the core; needs no Python
	cargo test --quiet

# The toolchain is rustup's: nothing is downloaded here.
.PHONY: msrv
msrv: ## core and binding compile with the oldest Rust that Cargo.toml promises
	version=$$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml); \
	for toolchain in $$version $$version.0; do \
		if rustup run $$toolchain cargo --version >/dev/null 2>&1; then \
			exec rustup run $$toolchain cargo check --quiet --workspace --target-dir target/msrv; \
		fi; \
	done; \
	echo "== NOT CHECKED: the oldest Rust, $$version, which is not installed"

# In a folder outside the workspace, and so without `unstable-embed`, which our own tests turn on.
.PHONY: package
package: ## what a Rust user gets: packed, and tested by itself
	cargo package --quiet --allow-dirty --no-verify
	folder=$$(mktemp -d) && tar xzf target/package/asynctask-*.crate -C $$folder --strip-components 1 && \
		cargo test --quiet --manifest-path $$folder/Cargo.toml --target-dir target/packaged && rm -r $$folder

.PHONY: test-python
test-python: dev ## tests of the module
	$(BIN)/python -m pytest -q -m 'not slow'

.PHONY: test-slow
test-slow: dev test-loom test-canary valgrind ## what takes longer: models of every interleaving, and the slow tests
	$(BIN)/python -m pip install --quiet --group handoff --group bench
	$(BIN)/python -m pytest -q -m slow

.PHONY: test-canary
test-canary: dev ## a part of them on a build that fails when a detached thread drops an object
	$(MAKE) --no-print-directory test-canary-on PYTHON=$(BIN)/python CANARY=target/canary/venv/bin/python
	version=3.14t; $(FIND_PYTHON); \
	if [ "$$python" ]; then \
		$(MAKE) --no-print-directory test-canary-on PYTHON="$$python" \
			CANARY=target/canary/venv-3.14t/bin/python; \
	else \
		echo "== NOT TESTED: the canary on 3.14t, which is not installed"; \
	fi

.PHONY: test-canary-on
test-canary-on:
	test -x $(CANARY) || $(PYTHON) -m venv $(dir $(patsubst %/,%,$(dir $(CANARY))))
	$(CANARY) -m pip install --quiet --upgrade 'pip>=25.1'
	$(CANARY) -m pip install --quiet --group test
	rm -rf target/canary/wheels
	RUSTFLAGS='--cfg pyo3_disable_reference_pool' $(BIN)/maturin build --quiet \
		--interpreter $(CANARY) --target-dir target/canary --out target/canary/wheels
	$(CANARY) -m pip install --quiet --no-deps --force-reinstall target/canary/wheels/*.whl
	$(CANARY) -m pytest -q -m 'not slow' $(addprefix tests/, asyncio contract $(addsuffix .py, \
		$(addprefix life/test_, exit_matrix fork fork_notices gc leaks signals) \
		$(addprefix pool/test_, handoff handoff_elsewhere handoff_ends nested pool shutdown) \
		tasks/test_group tasks/test_handle tools/test_tools))

.PHONY: test-loom
test-loom: ## the task and wake-up protocols under every interleaving
	RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) \
		cargo test --quiet --release --lib --target-dir target/loom loom

# The version of $(VENV) is tested there: it is not built twice.
.PHONY: test-all
test-all: $(BIN)/.tools ## the Python tests on every supported interpreter that is installed
	missing=; \
	for version in $(VERSIONS); do \
		if $(BIN)/python $(IS_VERSION); then python=$(PYTHON); venv=$(VENV); \
		else $(FIND_PYTHON); venv=.venv-$$version; fi; \
		if [ "$$python" ]; then \
			echo "== $$version: $$python"; \
			$(MAKE) --no-print-directory test-python PYTHON="$$python" VENV=$$venv || exit 1; \
			case $$version in \
			*t) $(MAKE) --no-print-directory stress PYTHON="$$python" VENV=$$venv || exit 1;; \
			3.15) $(MAKE) --no-print-directory test-cpython PYTHON="$$python" VENV=$$venv || exit 1;; \
			esac; \
		else \
			missing="$$missing $$version"; \
		fi; \
	done; \
	for version in $$missing; do echo "== NOT TESTED: $$version, which is not installed"; done

.PHONY: stress
stress: dev ## everything at once from many threads, a minute of it; free-threaded builds above all
	$(BIN)/python -m pytest -q -m stress

.PHONY: test-cpython
test-cpython: dev ## CPython's own tests of its thread pool, run on ours; 3.15 has them that we want
	$(BIN)/python tests/contract/cpython.py

.PHONY: lint
lint: $(BIN)/.tools ## formatters in check mode, clippy, ruff
	cargo fmt --all --check
	test ! -d benchmarks || cargo fmt --check --manifest-path benchmarks/native/rust/Cargo.toml
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check

# Pyright runs on node: the machine's, or where there is none, one that pip has.
$(BIN)/.pyright: $(BIN)/.tools
	$(BIN)/python -m pip install --quiet --group pyright
	command -v node >/dev/null || $(BIN)/python -m pip install --quiet 'pyright[nodejs]'
	touch $@

.PHONY: types
types: dev $(BIN)/.pyright ## mypy, pyright, and the stubs against the module
	$(BIN)/mypy
	$(BIN)/pyright --warnings
	$(BIN)/python -m mypy.stubtest asynctask --ignore-disjoint-bases --mypy-config-file pyproject.toml

.PHONY: graph
graph: ## which file of the core, the binding and the package uses which, and how long each is
	python3 scripts/graph.py

.PHONY: format
format: $(BIN)/.tools ## format everything
	cargo fmt --all
	test ! -d benchmarks || cargo fmt --manifest-path benchmarks/native/rust/Cargo.toml
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet

# A workload that fails does not keep the others from their figures: the last command fails for it.
.PHONY: bench
bench: dev ## the benchmarks beside their peers, in ten minutes, and whether they agree with ours
	rm -rf benchmarks/results/local
	for version in $(BENCH_PYTHONS); do \
		if $(BIN)/python -V | grep -q " $$version\."; then python=$(PYTHON); venv=$(VENV); \
		else $(FIND_PYTHON); venv=.venv-$$version; fi; \
		if [ "$$python" ]; then \
			$(MAKE) --no-print-directory bench-module PYTHON="$$python" VENV=$$venv || exit 1; \
		else \
			echo "== $$version is not installed: no figures of it"; \
		fi; \
	done
	$(BIN)/python -m pip install --quiet --group bench
	-$(BIN)/python -m benchmarks $(SCALE) --part core --save
	$(BIN)/python -m benchmarks.render

.PHONY: bench-module
bench-module: dev ## the module alone, on one interpreter
	$(BIN)/python -m pip install --quiet --group bench
	-$(BIN)/python -m benchmarks $(SCALE) --part module --save

.PHONY: bench-full
bench-full: ## all of it, to ten million timers and ten minutes of an interval: the better part of an hour
	$(MAKE) --no-print-directory bench SCALE=--full

.PHONY: bench-publish
bench-publish: ## make the last run what README and docs/benchmarks.md show
	$(BIN)/python -m benchmarks.render --publish

.PHONY: bench-tables
bench-tables: dev ## every published figure and plot, into target/benchmarks
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.render --tables

.PHONY: bench-rust
bench-rust: ## the wheel's benchmarks
	cargo bench --bench wheel

.PHONY: instructions
instructions: dev valgrind ## instructions of each operation, beside their bounds
	$(BIN)/python -m benchmarks.instructions

.PHONY: instructions-update
instructions-update: dev valgrind ## make what they are now their bounds
	$(BIN)/python -m benchmarks.instructions --update

.PHONY: valgrind
valgrind: # where it cannot be installed, what needs it says so
	command -v valgrind >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind >/dev/null; }

.PHONY: wheel
wheel: $(BIN)/.tools ## build a wheel into dist/
	$(BIN)/maturin build --release --out dist

.PHONY: clean
clean: ## remove what was built
	rm -rf target dist .venv .venv-3.*
