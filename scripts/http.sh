#!/usr/bin/env bash
# Runs clients of others against the services of examples/http: SDKs that retry, a browser, and load.
#
# Usage: scripts/http.sh [sdk] [browser] [load]     all three unless told
#
#   sdk      Stripe's SDK and one that Stainless generated (pip): fifty requests at once with one key,
#            then the same with the server killed in the middle and started again
#   browser  Chromium without a window opens the page with the form and pays
#   load     wrk with unique and with repeated keys, and the same service without the layer: ROUNDS (3)
#            times SECONDS_EACH (5) for each; shows the rates, and the median of their ratios
#
# What is missing it installs where it may, into target/http/ or with apt-get; what cannot be had is
# skipped. Figures of load mean nothing while something else runs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
folder="$root/examples/http"
target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
work=$(mktemp -d)
server=""
[ "$#" -gt 0 ] || set -- sdk browser load

stop() {
    [ -n "$server" ] || return 0
    kill -9 "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=""
}
close() { stop; rm -rf "$work"; }
trap close EXIT

have() { command -v "$1" >/dev/null 2>&1; }
skip() { echo "http.sh: skipped: $*"; }
fail() { echo "http.sh: FAILED: $*" >&2; exit 1; }

install_debian() {
    have "$1" && return 0
    local as=()
    [ "$(id -u)" = 0 ] || as=(sudo -n)
    have apt-get && "${as[@]}" apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1
    have "$1"
}

# Starts a program of the example; its address is in $address, and stays when it is started again.
address=""
start() {
    local program=$1 store=$2 at=${address:-http://127.0.0.1:0}
    stop
    : >"$work/out"
    ADDRESS="${at#http://}" WORK_MS="${WORK_MS:-200}" LEASE_MS="${LEASE_MS:-1500}" \
        "$target/http/release/$program" "$store" >"$work/out" 2>"$work/err" &
    server=$!
    for _ in $(seq 200); do
        address=$(sed -n 's/^listening at //p' "$work/out")
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/err" >&2
    fail "$program did not start"
}

ask() { python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())' "$1"; }

race() {
    local sdk=$1 path=$2
    address=""
    start payments "$work/$sdk"
    "$target/http/venv/bin/python" "$folder/clients/race.py" "$sdk" "$address" key-1 \
        || fail "$sdk: fifty requests with one key"
    [ "$(ask "$address$path")" = '{"charges":1}' ] || fail "$sdk: more than one execution"
    # Killed while the first of them is under way, and again while the next attempt is.
    "$target/http/venv/bin/python" "$folder/clients/race.py" "$sdk" "$address" key-2 >"$work/race" &
    local client=$!
    for pause in 0.6 0.15; do
        sleep "$pause"
        stop
        sleep 0.3
        start payments "$work/$sdk"
    done
    wait "$client" || { cat "$work/race"; fail "$sdk: killed in the middle"; }
    cat "$work/race"
    [ "$(ask "$address$path")" = '{"charges":2}' ] || fail "$sdk: more than one execution"
    echo "http.sh: $sdk: one execution and one id for fifty, also with the server killed twice"
}

run_sdk() {
    if ! "$target/http/venv/bin/python" -c 'import stripe, modern_treasury' 2>/dev/null; then
        python3 -m venv "$target/http/venv" \
            && "$target/http/venv/bin/pip" install -q stripe modern-treasury \
            || { skip "the SDKs could not be installed with pip"; return 0; }
    fi
    race stripe /v1/charges
    race stainless /v1/charges
    stop
}

run_browser() {
    local browser
    browser=$(command -v chromium-headless-shell || command -v chromium || true)
    if [ -z "$browser" ]; then
        install_debian chromium-headless-shell chromium-headless-shell || true
        browser=$(command -v chromium-headless-shell || true)
    fi
    [ -n "$browser" ] || { skip "Chromium is missing"; return 0; }
    address=""
    start payments "$work/browser"
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" \
        --virtual-time-budget=20000 --dump-dom "$address/#pay" >"$work/page" 2>/dev/null \
        || fail "the browser ended with an error"
    grep -q '<li class="handled">200 handled' "$work/page" || fail "the page shows no payment"
    grep -q '<li class="replayed">200 replayed' "$work/page" || fail "the page shows no replay"
    [ "$(ask "$address/v1/charges")" = '{"charges":1}' ] || fail "the page has paid more than once"
    echo "http.sh: browser: sent twice, paid once, and the replay is shown"
    stop
}

# Requests per second of one run.
measure() {
    local keys=$2
    address=""
    start load "$1"
    KEYS=$keys RUN=$number wrk -t1 -c32 -d"${SECONDS_EACH:-5}" -s "$folder/clients/keys.lua" \
        "$address/" >"$work/wrk" 2>&1 || { cat "$work/wrk" >&2; fail "wrk"; }
    # Of two requests at once with one key, one is refused.
    ! grep -q 'Non-2xx' "$work/wrk" || [ "$keys" = repeated ] || fail "wrk got refusals"
    rate=$(sed -n 's/^Requests\/sec: *//p' "$work/wrk")
}

# The runs take turns, so that whatever else the machine does meets all of them.
run_load() {
    install_debian wrk wrk || { skip "wrk is missing"; return 0; }
    local number rate plain unique
    for number in $(seq "${ROUNDS:-3}"); do
        measure plain unique
        plain=$rate
        measure "$work/load-unique-$number" unique
        unique=$rate
        measure "$work/load-repeated-$number" repeated
        echo "http.sh: load: $plain/s without the layer, $unique/s unique, $rate/s repeated"
        echo "$plain $unique $rate" >>"$work/rates"
    done
    stop
    awk '{ u[NR] = $2 / $1; r[NR] = $3 / $1 }
        function median(of, i, j, swap) {
            for (i = 1; i <= NR; i++) for (j = i + 1; j <= NR; j++)
                if (of[j] < of[i]) { swap = of[i]; of[i] = of[j]; of[j] = swap }
            return of[int((NR + 1) / 2)]
        }
        END {
            printf "http.sh: load: %.2f of the rate without the layer with unique keys, ", median(u)
            printf "%.2f with repeated ones\n", median(r)
        }' "$work/rates"
}

CARGO_TARGET_DIR="$target/http" cargo build --quiet --locked --release --bins \
    --manifest-path "$folder/Cargo.toml"
for part in "$@"; do
    case "$part" in
        sdk | browser | load) "run_$part" ;;
        *) fail "there is no part $part" ;;
    esac
done
