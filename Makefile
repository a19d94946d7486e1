# Every command of the project; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
LOOM_MAX_PREEMPTIONS ?= 3

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

.PHONY: demo
demo: dev ## the three usages, then a session server with a few thousand clients
	$(BIN)/python examples/usages.py
	$(BIN)/python examples/session_server.py

.PHONY: test
test: lint types test-rust test-python ## everything that must pass: lint, types, Rust and Python tests

.PHONY: test-rust
test-rust: ## tests of the core; needs no Python
	cargo test --quiet

.PHONY: test-python
test-python: dev ## tests of the module
	$(BIN)/python -m pytest -q -m 'not slow'

.PHONY: test-slow
test-slow: dev test-loom test-canary ## what takes longer: models of every interleaving, and the slow tests
	$(BIN)/python -m pip install --quiet --group handoff
	$(BIN)/python -m pytest -q -m slow

.PHONY: test-canary
test-canary: CANARY := target/canary/venv/bin/python
test-canary: dev ## a part of them on a build that fails when a detached thread drops an object
	test -x $(CANARY) || $(BIN)/python -m venv target/canary/venv
	$(CANARY) -m pip install --quiet --upgrade 'pip>=25.1'
	$(CANARY) -m pip install --quiet --group test
	rm -rf target/canary/wheels
	RUSTFLAGS='--cfg pyo3_disable_reference_pool' $(BIN)/maturin build --quiet \
		--interpreter $(CANARY) --target-dir target/canary --out target/canary/wheels
	$(CANARY) -m pip install --quiet --no-deps --force-reinstall target/canary/wheels/*.whl
	$(CANARY) -m pytest -q -m 'not slow' tests/contract $(addprefix tests/test_, $(addsuffix .py, \
		asyncio exit_matrix fork gc group handle handoff leaks pool signals tools))

.PHONY: test-loom
test-loom: ## the task and wake-up protocols under every interleaving
	RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) \
		cargo test --quiet --release --lib --target-dir target/loom loom

.PHONY: test-all
test-all: ## the Python tests on every supported interpreter that is installed
	for version in 3.11 3.12 3.13; do \
		for python in $$HOME/.pyenv/versions/$$version.*/bin/python python$$version; do \
			if "$$python" -c '' 2>/dev/null; then break; fi; \
			python=; \
		done; \
		if [ "$$python" ]; then \
			echo "== $$version: $$python"; \
			$(MAKE) --no-print-directory test-python PYTHON="$$python" VENV=.venv-$$version || exit 1; \
		else \
			echo "== $$version is not installed"; \
		fi; \
	done

.PHONY: lint
lint: $(BIN)/.tools ## formatters in check mode, clippy, ruff
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --features python -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --document-private-items
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check

.PHONY: types
types: dev ## mypy, and the stubs against the module
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest asynctask --ignore-disjoint-bases --mypy-config-file pyproject.toml

.PHONY: format
format: $(BIN)/.tools ## format everything
	cargo fmt
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet

.PHONY: bench
bench: dev ## the benchmarks beside their peers, in a few minutes
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks

.PHONY: bench-rust
bench-rust: ## the wheel's benchmarks
	cargo bench --bench wheel

.PHONY: wheel
wheel: $(BIN)/.tools ## build a wheel into dist/
	$(BIN)/maturin build --release --out dist

.PHONY: clean
clean: ## remove what was built
	rm -rf target dist .venv .venv-3.*
