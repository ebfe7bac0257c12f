#!/usr/bin/env bash
# Runs every check of the repository. On a fresh machine it first installs what is missing, as far
# as it may. Works from any folder and may be run again at any time; only fetching uses the network.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

steps=(
    "tools|tools that the checks need"
    "fetch|packages named by the lock files"
    "format|cargo fmt --check"
    "lint|cargo clippy"
    "tests|cargo test, documentation examples included"
    "planted|every fault of scripts/planted.sh still applies"
    "models|orders of steps of threads, by scripts/models.sh"
    "examples|every program in examples/"
    "broker|a consumer of NATS that is killed in the middle, by examples/nats/run.sh"
    "backends|one service over each backend, killed in the middle, by examples/backends/run.sh"
    "http|services of examples/http: their tests, and clients of others by scripts/http.sh"
    "docs|cargo doc without warnings"
    "fuzz|each fuzz target for two seconds, by scripts/fuzz.sh"
    "compare|cargo check of benches/compare/"
    "dependencies|size of the engine's dependency tree"
    "deny|licences and sources of all packages, by cargo deny"
    "readme|commands shown in README.md"
)
dependencies_max=16

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
export PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin:/usr/sbin"
# Debian keeps the server's programs off the path.
for folder in /usr/lib/postgresql/*/bin; do export PATH="$PATH:$folder"; done
target="${CARGO_TARGET_DIR:-$root/target}"
case "$target" in /*) ;; *) target="$root/$target" ;; esac
export CARGO_TARGET_DIR="$target"

work=$(mktemp -d)
current="start"
current_since=$SECONDS
finished=false

close() {
    local code=$?
    rm -rf "$work"
    if [ "$finished" != true ]; then
        [ "$code" -ne 0 ] || code=1
        echo >&2
        echo "test.sh: FAILED at $current after $((SECONDS - current_since)) s (exit $code)" >&2
    fi
    exit "$code"
}
trap close EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "   $*"; }
skip() { echo "   skipped: $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# --locked where a lock file is part of the tree.
locked() { if [ -f "$1/Cargo.lock" ]; then echo "--locked"; fi; }

# ---- tools ------------------------------------------------------------------------------------

# command|Debian packages|what needs it|required or optional
# The rocksdb peer of benches/compare takes clang and libclang too; no check here builds it.
debian_tools=(
    "cc|gcc libc6-dev|crates that build C code, and linking|required"
    "c++|g++|the fuzzing runtime|required"
    "make|make|build scripts of crates|required"
    "pkg-config|pkg-config|build scripts of crates|required"
    "gawk|gawk|scripts that read reports|optional"
    "nats-server|nats-server|runs of the consumer of NATS|optional"
    "redis-server|redis-server|tests of crates/oncelog-redis|optional"
    "strace|strace|checks that watch system calls|optional"
    "initdb|postgresql|tests over PostgreSQL|optional"
    "pgbouncer|pgbouncer|a test of oncelog-postgres through it|optional"
    "faketime|faketime|tests of clients whose clock is wrong|optional"
)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

install_debian() {
    if ! have apt-get; then
        say "apt-get is not here, so nothing is installed by itself"
        return 0
    fi
    say "installing with apt-get: $*"
    if ! as_root apt-get update -qq; then
        say "apt-get update did not work, or this user is neither root nor a sudoer"
        return 0
    fi
    # The run level keeps Debian from starting the servers that it installs.
    as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" \
        || say "apt-get could not install all of it"
}

check_debian_tools() {
    local entry command packages purpose need wanted=() missing=0
    for entry in "${debian_tools[@]}"; do
        IFS='|' read -r command packages purpose need <<<"$entry"
        # shellcheck disable=SC2206 # the packages are words
        have "$command" || wanted+=($packages)
    done
    [ "${#wanted[@]}" -eq 0 ] || install_debian "${wanted[@]}"
    for entry in "${debian_tools[@]}"; do
        IFS='|' read -r command packages purpose need <<<"$entry"
        have "$command" && continue
        if [ "$need" = optional ]; then
            skip "$command is missing; $purpose are left out (packages: $packages)"
        else
            echo "   MISSING: $command, for $purpose; install the package(s): $packages" >&2
            missing=$((missing + 1))
        fi
    done
    return "$missing"
}

check_component() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    if have rustup; then
        say "adding the $2 component with rustup"
        rustup component add "$2" && cargo "$1" --version >/dev/null 2>&1 && return 0
    fi
    echo "   MISSING: cargo $1; get it with: rustup component add $2" >&2
    return 1
}

step_tools() {
    check_debian_tools
    if ! have cargo; then
        echo "   MISSING: cargo; install the stable Rust toolchain (rustup does it best)" >&2
        return 1
    fi
    check_component fmt rustfmt
    check_component clippy clippy
    say "$(cargo --version), $(rustc --version)"
}

# ---- the checks -------------------------------------------------------------------------------

# Fetches once; with no network, what is in the local cache has to do.
step_fetch() {
    local folder
    for folder in . fuzz benches/compare examples/nats examples/http examples/backends; do
        [ -f "$folder/Cargo.toml" ] || continue
        # shellcheck disable=SC2046 # no word at all where there is no lock file
        cargo fetch --quiet --manifest-path "$folder/Cargo.toml" $(locked "$folder") \
            || say "fetching for $folder did not work; trying on with what is cached"
    done
}

step_format() {
    local folder
    cargo fmt --all --check
    for folder in benches/compare fuzz examples/{backends,http,kafka,ledger,nats,rabbitmq}; do
        if [ -f "$folder/Cargo.toml" ]; then
            cargo fmt --manifest-path "$folder/Cargo.toml" --check
        else
            skip "$folder has no Cargo.toml"
        fi
    done
}

step_lint() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
}

step_tests() {
    cargo test --workspace --all-features --locked
}

# That they are noticed takes longer, and is for those who change what they are made of.
step_planted() { bash scripts/planted.sh --check; }

step_models() { bash scripts/models.sh; }

# Each program runs in an empty folder of its own.
step_examples() {
    local file name log
    local found=()
    for file in examples/*.rs examples/*/main.rs; do
        [ -f "$file" ] || continue
        name=${file#examples/}
        name=${name%/main.rs}
        found+=("${name%.rs}")
    done
    if [ "${#found[@]}" -eq 0 ]; then
        skip "examples/ holds no program"
        return 0
    fi
    cargo build --examples --all-features --locked
    for name in "${found[@]}"; do
        log="$work/example-$name.log"
        mkdir -p "$work/example-$name"
        if (cd "$work/example-$name" && TMPDIR="$PWD" timeout 300 "$target/debug/examples/$name") \
            >"$log" 2>&1 </dev/null; then
            say "$name: ok"
        else
            echo "   $name: failed; it said:" >&2
            cat "$log" >&2
            return 1
        fi
    done
}

# The one of the three that takes least; scripts/brokers.sh runs all of them.
step_broker() {
    if ! have nats-server; then
        skip "nats-server is missing"
        return 0
    fi
    timeout --kill-after=30 1500 bash examples/nats/run.sh
}

step_backends() {
    timeout --kill-after=30 900 bash examples/backends/run.sh
}

# Load is measured by hand, on a machine that does nothing else.
step_http() {
    CARGO_TARGET_DIR="$target/http" cargo test --release --locked \
        --manifest-path examples/http/Cargo.toml
    timeout --kill-after=30 900 bash scripts/http.sh sdk browser
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked
}

# Runs inside the folder, so that a .cargo/config.toml of its own counts.
check_apart() {
    local folder=$1
    shift
    if [ ! -f "$folder/Cargo.toml" ]; then
        skip "$folder has no Cargo.toml"
        return 0
    fi
    # shellcheck disable=SC2046 # no word at all where there is no lock file
    (cd "$folder" && CARGO_TARGET_DIR="$target/apart" cargo check --all-targets $(locked .) "$@")
}

step_fuzz() { bash scripts/fuzz.sh 2; }
step_compare() { check_apart benches/compare; }

step_dependencies() {
    local tree count
    tree=$(cargo tree -p oncelog -e normal --prefix none --no-dedupe --locked | sort -u)
    count=$(wc -l <<<"$tree")
    say "$count crates, the engine included; at most $dependencies_max"
    if [ "$count" -gt "$dependencies_max" ]; then
        echo "$tree" >&2
        return 1
    fi
}

# Known vulnerabilities are looked up where their list is at hand or can be fetched.
step_deny() {
    if ! cargo deny --version >/dev/null 2>&1; then
        skip "cargo deny is missing; get it with: cargo install --locked cargo-deny"
        return 0
    fi
    cargo deny --offline check licenses bans sources
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny check advisories
    else
        skip "the list of advisories could not be fetched"
    fi
}

step_readme() { bash scripts/readme.sh; }

# ---- run --------------------------------------------------------------------------------------

number=0
for step in "${steps[@]}"; do
    number=$((number + 1))
    current="step $number/${#steps[@]} (${step%%|*})"
    current_since=$SECONDS
    echo
    echo "== $current: ${step#*|}"
    "step_${step%%|*}"
    echo "-- $current took $((SECONDS - current_since)) s"
done

finished=true
echo
echo "test.sh: all $number steps passed in $SECONDS s"
