#!/usr/bin/env bash
# Tries the models of what threads do at the same time (waiting, the lease protocol, searches without
# the lock, appending, reclaiming, filters) in many orders of their steps.
#
# Usage: scripts/models.sh [NAME...]     only the models whose names contain one of NAME
#
# ONCELOG_MODEL_TIMES=N tries N times as many orders; SHUTTLE_RANDOM_SEED=N repeats a run. The model
# checker takes the place of locks and atomics at compile time, so there is a target folder for it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

target="${CARGO_TARGET_DIR:-$root/target}"
export CARGO_TARGET_DIR="$target/models"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg oncelog_shuttle"

[ "$#" -gt 0 ] || set -- models:: order_model::
cargo test --lib --locked -- "$@"
