#!/usr/bin/env bash
# Installs the wheel into an empty environment, without Rust at hand, and uses it; then builds a wheel of the sdist alone.
# Needs DATABASE_URL.
#   scripts/smoke.sh DIRECTORY-OF-WHEEL-AND-SDIST

set -euo pipefail
packages=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wheel=$(ls "$packages"/*.whl)
sdist=$(ls "$packages"/*.tar.gz)
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"
export PIP_DISABLE_PIP_VERSION_CHECK=1

case $wheel in
*-cp39-abi3-*) ;;
*) echo "$wheel is not for every CPython from 3.9 on" >&2 && exit 1 ;;
esac

echo "the wheel, installed without Rust"
python3 -m venv venv
(
    PATH=$project/venv/bin:/usr/bin:/bin
    if command -v cargo; then echo "Rust is at hand: this proves nothing" >&2 && exit 1; fi
    pip install --quiet --only-binary :all: "$wheel[fastapi]"
    sed -n '/^```python$/,/^```$/p' "$here/README.md" | sed -e 1d -e '/^```$/,$d' >quick_start.py
    [ "$(python -X dev -W error quick_start.py)" = 488 ]
    agentkey migrate >/dev/null
    [ "$(python -m pyagentkey list --json | python -c 'import json, sys; print(len(json.load(sys.stdin)))')" = 1 ]
    # An interpreter that ends stops its threads wherever they are: below them may be the module, unwound by the system.
    cat >ending.py <<'PYTHON'
import os, threading
from pyagentkey import AgentKey

ak = AgentKey(os.environ["DATABASE_URL"])

def spin():
    while True:
        ak.validate("ak_x")

for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
for _ in range(200):
    ak.validate("ak_y")
PYTHON
    for _ in 1 2 3; do python ending.py; done
    python -W error -c 'import pyagentkey, pyagentkey.asgi, pyagentkey.fastapi; print("pyagentkey", pyagentkey.__version__)'
)

echo "the sdist, built on its own"
target=${CARGO_TARGET_DIR:-$here/../target/sdist}
# Files of an sdist have one age for ever, by which cargo would take our own for unchanged.
rm -rf "$target"/release/.fingerprint/agentkey*
CARGO_TARGET_DIR=$target venv/bin/pip wheel --quiet --no-deps --no-binary pyagentkey --wheel-dir built "$sdist"
python3 -m venv other
other/bin/pip install --quiet --no-deps built/*.whl
[ "$(other/bin/python quick_start.py)" = 488 ]
if tar -tzf "$sdist" | grep -E '/(node_modules|target|dist|tests/__pycache__)/|\.(so|node)$'; then
    echo "the sdist holds what was built" >&2 && exit 1
fi
echo "installed and used: the wheel $(basename "$wheel") and a wheel of the sdist"
