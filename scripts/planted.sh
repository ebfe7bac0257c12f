#!/usr/bin/env bash
# Plants small faults in a copy of the sources, one at a time, and says which test notices each.
#
# Usage: scripts/planted.sh [--check | --table] [--only NAME]... [--all-tests] [--json] [--seconds N]
#
#   --check      only sees whether every fault still applies, names a test, and has its row in docs
#   --table      prints the rows for docs/testing.md
#   --only NAME  only this fault; may be given several times
#   --all-tests  runs the whole suite against each fault, and names every test that notices: hours
#   --json       prints one JSON object instead of lines
#   --seconds N  a test that takes longer than this with a fault in place hangs (300)
#
# Exits with 1 if a fault is not noticed or does not apply. The faults are in tests/planted/faults/,
# the copy and its builds in target/planted/. Progress goes to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
exec cargo test --quiet --locked --test planted -- run "$@"
