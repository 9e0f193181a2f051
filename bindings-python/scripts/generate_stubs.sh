#!/usr/bin/env bash
# Makes python/pyagentkey/_native.pyi of the native module. With --check it only says whether it is current.
set -euo pipefail
cd "$(dirname "$0")/.."

stubs=python/pyagentkey/_native.pyi
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
maturin generate-stubs --quiet --features pyo3/experimental-inspect --out "$made"
{
    echo "# Generated from src/ by scripts/generate_stubs.sh: change the Rust."
    cat "$made/pyagentkey/_native.pyi"
} >"$made/_native.pyi"
ruff check --quiet --fix-only --config pyproject.toml "$made/_native.pyi"
ruff format --quiet --config pyproject.toml "$made/_native.pyi"
if [ "${1-}" != --check ]; then
    cp "$made/_native.pyi" "$stubs"
elif ! diff "$stubs" "$made/_native.pyi"; then
    echo "$stubs is not what scripts/generate_stubs.sh makes of src/: run it" >&2
    exit 1
fi
