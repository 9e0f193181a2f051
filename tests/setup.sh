#!/usr/bin/env bash
# Installs what the tests need beside Rust, Node, Python and Postgres. Does nothing when it is there.

set -euo pipefail

PATH=$PATH:/usr/sbin:/usr/local/sbin

have() { command -v pgbouncer >/dev/null; }

install_debian() {
    export DEBIAN_FRONTEND=noninteractive
    # The package would start a pgbouncer as a service.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends pgbouncer
}

have && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "==> installing pgbouncer"
    install_debian >/dev/null || true
fi

if ! have; then
    echo "pgbouncer is missing, the pooler tests need it: install it (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer)" >&2
    # Only a developer may go on without.
    [ -z "${CI:-}" ] || exit 1
fi
