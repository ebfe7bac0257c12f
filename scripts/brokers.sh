#!/usr/bin/env bash
# Runs the consumers of examples/kafka, examples/rabbitmq and examples/nats against real brokers.
#
# Usage: scripts/brokers.sh [NAME...]     only these of kafka, rabbitmq and nats
#
# Each script installs its broker where it may, starts it on a free port in a folder of its own, sends
# messages some of which are repeated, kills the consumer several times, and counts the effects. What
# they take (PAYMENTS, KILLS, LIMIT) is in examples/ledger/drive.sh. Building takes some three minutes
# of one core the first time, most of it the C code of two libraries.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

[ "$#" -gt 0 ] || set -- nats rabbitmq kafka
target="${CARGO_TARGET_DIR:-$root/target}"
for name in "$@"; do
    manifest="examples/$name/Cargo.toml"
    if [ ! -f "$manifest" ]; then
        echo "brokers.sh: there is no $manifest" >&2
        exit 2
    fi
    CARGO_TARGET_DIR="$target/brokers" \
        cargo clippy --quiet --locked --manifest-path "$manifest" -- -D warnings
    # Compiling included, also on a busy machine.
    timeout --kill-after=30 1500 bash "examples/$name/run.sh"
done
