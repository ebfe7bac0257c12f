#!/usr/bin/env bash
# Runs tests of what touches memory by address under valgrind's memcheck, and says what it leaves out.
#
# Usage: scripts/sanitize.sh [NAME...]     only the unit tests whose names contain one of NAME
#
# Takes four minutes: the engine is compiled without optimisation for it, in a target folder of its
# own, as the optimiser moves comparisons ahead of the ones that say whether they count.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/sanitize"
export CARGO_PROFILE_DEV_OPT_LEVEL=0

skip() { echo "sanitize.sh: skipped: $*"; }

# What there is of structures on mapped memory, and whole engines on files in memory: opening,
# writing, leases, removing, expiring, dropping, reading without the lock.
names=(
    format:: index:: sys:: wheel:: log::
    engine::lease_tests::a_ engine::lease_tests::room engine::room_tests::the_limit
    engine::tests::a_record_read engine::tests::after_a_close engine::tests::dropped
    engine::tests::every_answer engine::tests::versions
)
[ "$#" -eq 0 ] || names=("$@")

if command -v valgrind >/dev/null 2>&1; then
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9"
    echo "sanitize.sh: memcheck over: ${names[*]}"
    cargo test --lib --locked -- --test-threads 1 "${names[@]}"
else
    skip "memcheck: there is no valgrind (Debian package: valgrind)"
fi

skip "the other tests under memcheck: stores of many megabytes take minutes each"
skip "helgrind and DRD: they know the locks of pthread, and the engine's are parking_lot's"
skip "ThreadSanitizer: without a standard library built for it, it reports what is none; that takes" \
    "a nightly toolchain with rust-src. scripts/models.sh looks for races instead"
skip "miri: it has no memory mappings, on which all of the engine's unsafe code rests"
