# The commands of the README. A language is a name in PARTS and its targets test-NAME, check-NAME and
# packages-NAME.
PARTS := rust

SHELL := bash
with_postgres := tests/postgres.sh run --

.DEFAULT_GOAL := help
.PHONY: help demo test check bench packages clean setup $(PARTS:%=test-%) $(PARTS:%=check-%) $(PARTS:%=packages-%)

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */make \1|/' | \
		while IFS='|' read -r target text; do printf '%-15s %s\n' "$$target" "$$text"; done
	@echo "DATABASE_URL is used if it is set; otherwise a Postgres is started and stopped again."

demo: have-cargo ## the main features against a real Postgres
	@echo "==> demo"
	@$(with_postgres) cargo run --quiet --release -p agentkey --example demo

test: setup $(PARTS:%=test-%) ## all tests, against a real Postgres

check: $(PARTS:%=check-%) ## format, lints, dependencies

bench: have-cargo ## throughput and latency beside the usual way
	@echo "==> bench"
	@$(with_postgres) cargo bench -p agentkey --bench client

packages: $(PARTS:%=packages-%) ## what users install, in dist/

clean: ## remove everything that was made
	@echo "==> clean"
	rm -rf target dist

setup:
	@tests/setup.sh

# --- Rust

test-rust: have-cargo setup
	@echo "==> test: Rust"
	$(with_postgres) cargo test --workspace --all-features

check-rust: have-cargo
	@echo "==> check: format"
	cargo fmt --all --check
	@echo "==> check: lints"
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	@echo "==> check: without default features the crate does no I/O"
	@tree=$$(cargo tree -p agentkey --no-default-features -e normal --prefix none) || exit 1; \
	if found=$$(grep -E '^(tokio|sqlx)' <<<"$$tree"); then \
		echo "agentkey without default features depends on:" $$found >&2; exit 1; \
	fi
	@if command -v cargo-deny >/dev/null; then \
		echo "==> check: licences and advisories"; cargo deny check; \
	else \
		echo "==> check: licences and advisories not checked, cargo-deny is not installed"; \
	fi

packages-rust: have-cargo
	@echo "==> packages: Rust"
	cargo package -p agentkey --allow-dirty --quiet
	@mkdir -p dist/rust
	cp target/package/agentkey-*.crate dist/rust/

# --- tools

install-cargo := Rust 1.94 or newer with rustfmt and clippy, see https://rustup.rs
install-node := Node 20 or newer, see https://nodejs.org
install-npm := npm, it comes with Node
install-python3 := Python 3.9 or newer with pip and venv

have-%:
	@command -v $* >/dev/null || { echo "make: $* is missing: install $(install-$*)" >&2; exit 1; }
