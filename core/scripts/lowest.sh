#!/usr/bin/env bash
# The packed crate compiles with the lowest version of each dependency that it states, and under the lowest Rust that
# it states where that is the toolchain at hand.
#   core/scripts/lowest.sh [FEATURE-FLAGS]     default: --no-default-features, the engine alone

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# > 0)) || set -- --no-default-features
target=${CARGO_TARGET_DIR:-$PWD/target}
place=$target/lowest
crate=$place/agentkey

cargo package -p agentkey --allow-dirty --no-verify --quiet 2>/dev/null ||
    cargo package -p agentkey --allow-dirty --no-verify
rm -rf "$place/new"
mkdir -p "$place/new" "$crate"
tar -xzf "$(ls -t "$target"/package/agentkey-*.crate | head -n 1)" -C "$place/new" --strip-components 1

# Of what only tests need, the lowest versions are of no interest. A workspace of its own, or cargo looks further up.
awk '/^\[/ { skip = /^\[dev-dependencies/ } !skip' "$place/new/Cargo.toml" >"$place/Cargo.toml"
printf '\n[workspace]\n' >>"$place/Cargo.toml"
rm -f "$place/new/Cargo.lock"
# Whatever did not change keeps its time, so that a second run is quick.
cmp -s "$place/Cargo.toml" "$crate/Cargo.toml" || rm -f "$crate/Cargo.lock"
mv "$place/Cargo.toml" "$place/new/Cargo.toml"
[ ! -f "$crate/Cargo.lock" ] || mv "$crate/Cargo.lock" "$place/new/Cargo.lock"
rm -rf "$crate"
mv "$place/new" "$crate"

cd "$crate"
# RUSTC_BOOTSTRAP lets a stable cargo choose the versions. What compiles is the toolchain as it is.
[ -f Cargo.lock ] || RUSTC_BOOTSTRAP=1 cargo generate-lockfile --quiet -Z direct-minimal-versions
cargo check --locked --quiet --lib --target-dir "$place/target" "$@"
