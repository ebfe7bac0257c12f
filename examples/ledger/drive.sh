# What the scripts of the broker examples share; they source it, from their own folders.
#
# A script starts its server, sends the payments, and hands over to `consume_with_kills`
# and `count_effects`. Whatever was started is ended by its process id when the script ends, however
# it ends, and nothing is waited for without a limit.
#
# PAYMENTS=N and KILLS=N change how many there are; LIMIT=N is how many seconds it may take.
# shellcheck shell=bash
set -euo pipefail

payments="${PAYMENTS:-400}"
kills="${KILLS:-6}"
# As in the programs.
batch_max=16
deadline=$((SECONDS + ${LIMIT:-240}))

root=$(cd ../.. && pwd -P)
name=$(basename "$PWD")
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/brokers"
program="$CARGO_TARGET_DIR/debug/oncelog-$name"

export PATH="$PATH:/usr/sbin"

work=$(mktemp -d)
started=()
# A group of its own for everything that is started, so that it is ended as a whole.
set -m

# Waits until the group of processes is gone, up to ten seconds.
wait_for_end() {
    for _ in {1..100}; do
        kill -0 -- "-$1" 2>/dev/null || break
        sleep 0.1
    done
}

close() {
    local code=$? number pid
    trap - EXIT
    disown -a
    # The latest first: it may need the others, and start them anew.
    for ((number = ${#started[@]} - 1; number >= 0; number--)); do
        pid=${started[number]}
        kill -TERM -- "-$pid" 2>/dev/null || continue
        wait_for_end "$pid"
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
    if [ "$code" -ne 0 ]; then
        tail -n 5 "$work"/*.log >&2 2>/dev/null || true
        echo "$name: FAILED (exit $code); above is the last that each of its processes said" >&2
    fi
    rm -rf "$work"
    exit "$code"
}
trap close EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "$name: $*" >&2
    exit 1
}

in_time() { [ "$SECONDS" -lt "$deadline" ] || fail "this takes too long"; }

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# The command, else from the Debian package. Debian starts a server that it installs, where it may;
# this asks it not to, and uses ports of its own anyway.
need() {
    local command=$1 package=$2
    have "$command" && return 0
    have apt-get || fail "$command is missing: install $package"
    echo "$name: installing $package with apt-get"
    as_root apt-get update -qq || true
    as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$package" >"$work/apt.log" 2>&1 || true
    have "$command" || fail "$command is missing, and could not be installed: install $package"
}

build() {
    cargo build --quiet --locked
    [ -x "$program" ] || fail "there is no $program"
    # Compiling has its own time.
    deadline=$((SECONDS + ${LIMIT:-240}))
}

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port on which nothing listens.
free_port() {
    local port
    for _ in {1..100}; do
        port=$((20000 + RANDOM % 10000))
        is_open "$port" || { echo "$port"; return 0; }
    done
    fail "there is no free port"
}

# Starts a command in the background; what it says goes to $work/NAME.log.
start() {
    local log="$work/$1.log"
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    started+=("$!")
}

# Ends what was started, as a power cut would.
end() {
    local pid others=()
    # Or the shell says that it was killed.
    disown "$1" 2>/dev/null || true
    # With its children: a server may have some.
    kill -KILL -- "-$1" 2>/dev/null || true
    wait_for_end "$1"
    for pid in "${started[@]}"; do
        [ "$pid" = "$1" ] || others+=("$pid")
    done
    started=("${others[@]}")
}

# Waits until the port is open, as long as what was started last is there.
wait_for_port() {
    until is_open "$1"; do
        in_time
        kill -0 "${started[-1]}" 2>/dev/null || fail "the server has ended"
        sleep 0.1
    done
}

# Lines of all runs of the consumer that begin so.
lines() { cat "$work"/consumer-*.log 2>/dev/null | grep -c "^$1" || true; }

# Stops the consumer; true, and it stays so, if its last word is of an effect that is not marked yet.
stops_before_the_mark() {
    kill -STOP "$1" 2>/dev/null || return 1
    if [[ "$(tail -n 1 "$2")" == effect* ]]; then return 0; fi
    kill -CONT "$1"
    return 1
}

# Kills the consumer so many times in the middle and starts it again; the last one comes to its end.
# A kill is to come between an effect and its mark, if twenty looks find that. Halfway the server is killed with it, where the script has a `start_server` that finds its messages
# again. The arguments are what the consumer is told after the store and the ledger.
consume_with_kills() {
    local run pid target looks
    for run in $(seq "$kills"); do
        target=$((payments * run / (kills + 1) + RANDOM % 8))
        start "consumer-$run" "$program" consume "$work/store" "$work/ledger.db" "$@"
        pid=${started[-1]}
        looks=0
        until [ "$(lines effect)" -ge "$target" ] && {
            [ "$looks" = 20 ] || stops_before_the_mark "$pid" "$work/consumer-$run.log"
        }; do
            in_time
            [ "$(lines effect)" -lt "$target" ] || looks=$((looks + 1))
            kill -0 "$pid" 2>/dev/null || fail "the consumer has ended before it was killed"
            sleep 0.01
        done
        end "$pid"
        if [ "$run" = $(((kills + 1) / 2)) ] && declare -F start_server >/dev/null; then
            end "$server_pid"
            start_server
        fi
    done
    start consumer-last "$program" consume "$work/store" "$work/ledger.db" "$@"
    pid=${started[-1]}
    while kill -0 "$pid" 2>/dev/null; do
        in_time
        sleep 0.1
    done
    wait "$pid" || fail "the last consumer has failed"
    end "$pid"
}

# What is in the ledger, against what was sent. A kill cuts off the effects of one batch, so more
# repetitions than that mean that what was marked has been handled again.
count_effects() {
    local sent=$1 delivered said killed="" repeats_max=$((kills * batch_max))
    delivered=$(cat "$work"/consumer-*.log | awk '/^delivered: / { sum += $2 } END { print sum }')
    said=$(timeout 60 "$program" check "$work/ledger.db" "$payments" "$repeats_max") \
        || fail "the count is wrong"
    [ "$kills" = 0 ] || [[ "$said" != *"refused 0 "* ]] \
        || fail "no kill came between an effect and its mark, so that nothing was shown"
    if declare -F start_server >/dev/null; then killed=", the server once"; fi
    echo "$name: $sent messages sent, $delivered delivered to $((kills + 1)) consumers," \
        "$kills of them killed$killed: $said"
}
