# The commands of the README. A language is a name in PARTS and its targets test-NAME, check-NAME and
# packages-NAME.
PARTS := rust node python

SHELL := bash
with_postgres := tests/postgres.sh run --

.DEFAULT_GOAL := help
.PHONY: help sql soak sequences bench-keys bench-growth plots fuzz-http fleet doors test-doors demo demo-express demo-axum demo-fastapi test check bench bench-node bench-python bench-http packages clean setup $(PARTS:%=test-%) $(PARTS:%=check-%) $(PARTS:%=packages-%)

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */make \1|/' | \
		while IFS='|' read -r target text; do printf '%-15s %s\n' "$$target" "$$text"; done
	@echo "DATABASE_URL is used if it is set; otherwise a Postgres is started and stopped again."

demo: demo-express demo-axum demo-fastapi ## one key spends through several servers at once, stopped exactly at its cap
	@echo "==> demo"
	@$(with_postgres) node examples/demo.mjs $(demo-servers)

test: setup $(PARTS:%=test-%) test-doors ## all tests, against a real Postgres

check: $(PARTS:%=check-%) ## format, lints, dependencies

bench: have-cargo ## throughput and latency beside the usual way
	@echo "==> bench"
	@$(with_postgres) cargo bench -p agentkey --bench client
	@$(with_postgres) cargo bench -p agentkey --bench processes

soak: have-cargo ## a million random calls, some of them on keys with odd rows
	@echo "==> soak"
	@$(with_postgres) env AGENTKEY_ODD_CALLS=1000000 cargo test --release -p agentkey --all-features --test odd -- --nocapture

bench-keys: have-cargo ## get, update, rotate, list, explain and revokeAll at 5,000,000 keys
	@echo "==> bench-keys"
	@$(with_postgres) cargo bench -p agentkey --bench keys

bench-growth: have-cargo ## what calls cost with more callers, processes, keys, entries and ended reservations: 20 minutes, 12 GB
	@echo "==> bench-growth"
	@$(with_postgres) cargo bench -p agentkey --bench growth

plots-venv := target/plots

$(plots-venv)/ready: docs/plots/requirements.txt | have-python3
	@echo "==> pip install, into $(plots-venv)"
	@python3 -m venv $(plots-venv)
	@$(plots-venv)/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@

plots: $(plots-venv)/ready ## docs/plots/*.svg from the figures of bench-growth, or else from docs/plots/growth.json
	@echo "==> plots"
	@$(plots-venv)/bin/python docs/plots/plot.py

sequences: have-cargo ## 1,000 random sequences of all that is done to keys, while others spend
	@echo "==> sequences"
	@$(with_postgres) env AGENTKEY_SEQUENCES=$${AGENTKEY_SEQUENCES:-1000} cargo test --release -p agentkey --all-features --test sequences -- --nocapture

sql: have-cargo ## every statement as it runs on the standard table, to EXPLAIN it
	@$(with_postgres) cargo run --quiet -p agentkey --example sql

packages: $(PARTS:%=packages-%) ## what users install, in dist/

clean: ## remove everything that was made
	@echo "==> clean"
	rm -rf target dist bindings-node/{node_modules,dist,npm} bindings-node/native/*.{node,js} examples/express/node_modules
	rm -f bindings-python/python/pyagentkey/_native.*.so

setup:
	@tests/setup.sh

# --- Rust

test-rust: have-cargo setup
	@echo "==> test: Rust"
	$(with_postgres) cargo test -p agentkey --all-features

check-rust: have-cargo
	@echo "==> check: format"
	cargo fmt --all --check
	@echo "==> check: rooms, root exports, file sizes"
	core/scripts/rooms.sh
	@echo "==> check: lints"
	cargo clippy -p agentkey -p agentkey-example-axum -p agentkey-doors --all-targets --all-features -- -D warnings
	@echo "==> check: without default features the crate does no I/O"
	@tree=$$(cargo tree -p agentkey --no-default-features -e normal --prefix none) || exit 1; \
	if found=$$(grep -E '^(tokio|sqlx)' <<<"$$tree"); then \
		echo "agentkey without default features depends on:" $$found >&2; exit 1; \
	fi
	@echo "==> check: the command line without a driver"
	cargo clippy -p agentkey --no-default-features --features cli -- -D warnings
	@echo "==> check: the lowest versions of the engine's dependencies"
	core/scripts/lowest.sh
	@echo "==> check: each package has the licence"
	@for package in core bindings-node bindings-python; do cmp LICENSE $$package/LICENSE || exit 1; done
	@echo "==> check: links of the packages' READMEs work outside of the repository"
	@if grep -noE '\]\([^)]*\)' README.md bindings-*/README.md | grep -vE '\((https://|#)'; then \
		echo "write these links with https://" >&2; exit 1; \
	fi
	@if command -v cargo-deny >/dev/null; then \
		echo "==> check: licences and sources"; cargo deny check bans licenses sources; \
	else \
		echo "==> check: licences and advisories not checked, cargo-deny is not installed"; \
	fi

packages-rust: have-cargo
	@echo "==> packages: Rust"
	cargo package -p agentkey --features cli --allow-dirty --quiet
	@mkdir -p dist/rust
	cp target/package/agentkey-*.crate dist/rust/

# --- Node

node := bindings-node
node_modules := $(node)/node_modules/.package-lock.json
# The native module and the TypeScript; quick where nothing changed.
build-node := npm --prefix $(node) run --silent build

$(node_modules): $(node)/package-lock.json | have-node have-npm
	@echo "==> npm ci"
	@npm --prefix $(node) ci --loglevel=error --no-audit --no-fund && touch $@

test-node: have-cargo setup $(node_modules)
	@echo "==> test: Node"
	@$(build-node)
	cd $(node) && ../$(with_postgres) npx --no-install vitest run

check-node: have-cargo $(node_modules)
	@echo "==> check: Node, types"
	@cp $(node)/native/native.d.ts $(node)/native/committed.d.ts
	@$(build-node)
	@cd $(node)/native && if ! diff committed.d.ts native.d.ts; then \
		rm committed.d.ts; echo "native/native.d.ts was not as built: commit it" >&2; exit 1; \
	fi; rm committed.d.ts
	npm --prefix $(node) run --silent check

packages-node: have-cargo $(node_modules)
	@echo "==> packages: Node"
	@$(build-node)
	node $(node)/scripts/pack.mjs dist/npm
	$(node)/scripts/smoke.sh dist/npm

bench-node: have-cargo $(node_modules)
	@$(build-node)
	$(with_postgres) node --expose-gc $(node)/bench/bench.mjs

# --- Python

python := bindings-python
venv := target/python/venv
venv-ready := $(venv)/ready
# The native module, into the environment; quick where nothing changed.
build-python := cd $(python) && VIRTUAL_ENV=$(abspath $(venv)) $(abspath $(venv))/bin/maturin develop --release --quiet
in-python := cd $(python) && PATH=$(abspath $(venv))/bin:$$PATH

$(venv-ready): $(python)/requirements-dev.txt | have-python3
	@echo "==> pip install, into $(venv)"
	@python3 -m venv $(venv)
	@$(venv)/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@

test-python: have-cargo $(venv-ready) demo-axum
	@echo "==> test: Python"
	@$(build-python)
	$(in-python) ../$(with_postgres) python -m pytest

check-python: have-cargo $(venv-ready)
	@echo "==> check: Python, format and lints"
	@$(build-python)
	$(in-python) python scripts/generate_sync.py --check
	$(in-python) VIRTUAL_ENV=$(abspath $(venv)) scripts/generate_stubs.sh --check
	$(in-python) ruff format --check . ../examples/fastapi
	$(in-python) ruff check . ../examples/fastapi
	cargo clippy -p agentkey-python --all-targets -- -D warnings
	@echo "==> check: Python, types"
	$(in-python) mypy
	$(in-python) python -m mypy.stubtest pyagentkey._native
	$(in-python) pyright --warnings

packages-python: have-cargo $(venv-ready)
	@echo "==> packages: Python"
	@rm -rf dist/python
	$(in-python) maturin sdist --out ../dist/python
	# Not with zig: its unwinder is not the system's, and an interpreter that ends while threads wait then crashes.
	$(in-python) maturin build --release --strip --out ../dist/python
	$(with_postgres) $(python)/scripts/smoke.sh dist/python

bench-python: have-cargo $(venv-ready)
	@$(build-python)
	$(in-python) ../$(with_postgres) python bench/bench.py

fuzz-http: have-cargo $(venv-ready) ## the self-serve routes under requests that schemathesis makes up, a thousand each way for each route
	@$(build-python)
	@echo "==> fuzz-http"
	$(in-python) AGENTKEY_FUZZ_EXAMPLES=$${AGENTKEY_FUZZ_EXAMPLES:-1000} ../$(with_postgres) python -m pytest -q tests/test_fuzz.py

# --- all languages

fleet: have-cargo $(node_modules) $(venv-ready) ## clients in three languages and the original's statements on one table, a minute each way
	@$(build-node)
	@$(build-python)
	@echo "==> fleet"
	@AGENTKEY_FLEET_SECONDS=$${AGENTKEY_FLEET_SECONDS:-60} AGENTKEY_FLEET_WORKERS=$$'node $(CURDIR)/tests/fleet/worker.mjs\n$(CURDIR)/$(venv)/bin/python $(CURDIR)/tests/fleet/worker.py' \
		$(with_postgres) cargo test --release -p agentkey --all-features --test fleet -- --nocapture

latency := tests/latency
latency_modules := $(latency)/node_modules/.package-lock.json

$(latency_modules): $(latency)/package-lock.json | have-node have-npm
	@echo "==> npm ci, $(latency)"
	@npm --prefix $(latency) ci --loglevel=error --no-audit --no-fund && touch $@

bench-http: have-cargo $(node_modules) $(venv-ready) $(latency_modules) ## latency of Express and FastAPI with and without a check of keys, also better-auth's
	@$(build-node)
	@$(build-python)
	@echo "==> bench-http"
	@$(with_postgres) node $(latency)/run.mjs $(venv)/bin/python

run-doors := $(with_postgres) node tests/doors/run.mjs
build-doors := cargo build --quiet --release -p agentkey-doors

doors: have-cargo $(node_modules) $(venv-ready) ## seven servers under a random mix of requests, deploys and database restarts, for ten minutes
	@$(build-node)
	@$(build-python)
	@$(build-doors)
	@echo "==> doors"
	@$(run-doors) $${AGENTKEY_DOORS_SECONDS:-600} $(venv)/bin/python target/release/agentkey-doors

test-doors: have-cargo $(node_modules) $(venv-ready)
	@echo "==> test: the doors of every language at once"
	@$(build-node)
	@$(build-python)
	@$(build-doors)
	@$(run-doors) 20 $(venv)/bin/python target/release/agentkey-doors

# --- the servers of the demo

demo-servers := Express="node examples/express/app.mjs" axum="target/release/agentkey-example-axum" FastAPI="$(venv)/bin/python examples/fastapi/app.py"

demo-express: have-cargo $(node_modules)
	@echo "==> demo: the package and the Express app"
	@$(build-node)
	@npm --prefix examples/express install --loglevel=error --no-audit --no-fund --no-package-lock

demo-axum: have-cargo
	@echo "==> demo: the axum app"
	@cargo build --quiet --release -p agentkey-example-axum

demo-fastapi: have-cargo $(venv-ready)
	@echo "==> demo: the package and the FastAPI app"
	@$(build-python)

# --- tools

install-cargo := Rust 1.94 or newer with rustfmt and clippy, see https://rustup.rs
install-node := Node 20 or newer, see https://nodejs.org
install-npm := npm, it comes with Node
install-python3 := Python 3.9 or newer with pip and venv

have-%:
	@command -v $* >/dev/null || { echo "make: $* is missing: install $(install-$*)" >&2; exit 1; }
