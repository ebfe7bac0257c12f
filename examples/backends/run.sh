#!/usr/bin/env bash
# Runs one service over the embedded engine, Redis and PostgreSQL: two instances are asked to charge
# one order, the one that charges is killed, the other takes over, and a third answers what it has.
# Servers of its own, on free ports of this machine. Needs redis-server and postgresql.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

root=$(cd ../.. && pwd -P)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/backends"
program="$CARGO_TARGET_DIR/debug/oncelog-backends"
for folder in /usr/lib/postgresql/*/bin; do export PATH="$PATH:$folder"; done

work=$(mktemp -d)
chmod 755 "$work"
started=()

close() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap close EXIT

fail() {
    echo "backends: FAILED: $*" >&2
    tail -n 5 "$work"/*.log >&2 || true
    exit 1
}

free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    fail "no free port was found"
}

wait_for_port() {
    for _ in {1..200}; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    fail "nothing listens at port $1"
}

wait_for_line() {
    for _ in {1..200}; do
        grep -qs "$1" "$2" && return
        sleep 0.05
    done
    fail "no line with \"$1\" in $2"
}

# A server of PostgreSQL does not run as root.
as_somebody() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid nobody --regid nogroup --clear-groups "$@"
    else
        "$@"
    fi
}

# Two instances and a kill, then a third instance.
race() {
    local kind=$1 backend=$2 bank="$work/$1.bank" first second
    "$program" "$backend" one order-42 "$bank" >"$work/$kind-one.log" 2>&1 &
    first=$!
    wait_for_line "one: charging order-42, attempt 1" "$work/$kind-one.log"
    "$program" "$backend" two order-42 "$bank" >"$work/$kind-two.log" 2>&1 &
    second=$!
    sleep 0.2
    kill -9 "$first"
    wait "$first" 2>/dev/null && fail "$kind: the first instance was not killed in time"
    wait "$second" || fail "$kind: the second instance failed"
    grep -q "two: charging order-42, attempt 2" "$work/$kind-two.log" || fail "$kind: no takeover"
    timeout 20 "$program" "$backend" three order-42 "$bank" >"$work/$kind-three.log" 2>&1 \
        || fail "$kind: the third instance failed"
    [ "$(sed -n 's/^two: charged: //p' "$work/$kind-two.log")" \
        = "$(sed -n 's/^three: charged before: //p' "$work/$kind-three.log")" ] \
        || fail "$kind: the third instance has another answer"
    [ "$(wc -l <"$bank")" = 1 ] || fail "$kind: the order was charged $(wc -l <"$bank") times"
    echo "$kind: one instance killed, one took over, one answered the same; charged once"
}

cargo build --quiet --locked

race embedded "embedded:$work/store"

if command -v redis-server >/dev/null; then
    port=$(free_port)
    redis-server --port "$port" --bind 127.0.0.1 --dir "$work" --appendonly yes --save "" \
        >"$work/redis.log" 2>&1 &
    started+=($!)
    wait_for_port "$port"
    race redis "redis://127.0.0.1:$port/"
else
    echo "redis: skipped: redis-server is not installed (package redis-server)"
fi

if command -v initdb >/dev/null; then
    port=$(free_port)
    install -d -m 700 "$work/postgres"
    [ "$(id -u)" != 0 ] || chown nobody "$work/postgres"
    as_somebody initdb -D "$work/postgres" -U oncelog -A trust >"$work/postgres.log" 2>&1 \
        || fail "initdb did not work"
    as_somebody postgres -D "$work/postgres" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= >>"$work/postgres.log" 2>&1 &
    started+=($!)
    wait_for_port "$port"
    race postgres "postgres://oncelog@127.0.0.1:$port/postgres"
else
    echo "postgres: skipped: initdb is not installed (package postgresql)"
fi
