#!/usr/bin/env bash
# Runs the fuzz targets one after another, each for SECONDS (10 unless told), beginning with the seeds.
#
# Usage: scripts/fuzz.sh [SECONDS [TARGET...]]
#
# Works with the stable toolchain: libFuzzer comes as a crate, and the compiler's coverage counters
# are switched on by flags that cargo-fuzz gives too. What is found to cover something new is kept
# in target/fuzz/corpus/TARGET and used by later runs; an input that fails is written to
# target/fuzz/failed/TARGET, and `scripts/fuzz.sh 0 TARGET FILE` runs it again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
seconds=${1:-10}
[ "$#" -eq 0 ] || shift
case "$seconds" in "" | *[!0-9]*) echo "fuzz.sh: SECONDS is a whole number, not $seconds" >&2; exit 2 ;; esac

target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
work="$target/fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    # The counters of small functions are dropped by the linker otherwise.
    -Ccodegen-units=1
)

cd "$root/fuzz"
# With --target the flags are kept from build scripts, which have no fuzzing runtime.
RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR="$work" cargo build --release --locked --target "$host"

if [ "$seconds" = 0 ]; then
    name=$1
    shift
    exec "$work/$host/release/$name" "$@"
fi

names=("$@")
if [ "${#names[@]}" -eq 0 ]; then
    for seeds in seeds/*/; do names+=("$(basename "$seeds")"); done
fi
for name in "${names[@]}"; do
    mkdir -p "$work/corpus/$name" "$work/failed/$name"
    echo "fuzz.sh: $name for $seconds s"
    "$work/$host/release/$name" "$work/corpus/$name" "$root/fuzz/seeds/$name" \
        -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -max_len=65536 \
        -artifact_prefix="$work/failed/$name/" -print_final_stats=1 2>"$work/$name.log" || {
        tail -n 40 "$work/$name.log" >&2
        echo "fuzz.sh: $name FAILED; the input is in $work/failed/$name" >&2
        exit 1
    }
    grep -E "stat::number_of_executed_units|DONE" "$work/$name.log" | sed 's/^/   /'
done
