#!/usr/bin/env bash
# Runs every ```sh block of README.md that follows a `<!-- run -->` line, each in its own shell,
# from the repository root, with empty folders for TMPDIR and HOME. Fails when one of them fails.
# Usage: scripts/readme.sh [FILE]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
page=$(realpath -m "${1:-$root/README.md}")
cd "$root"

if [ ! -f "$page" ]; then
    echo "readme.sh: there is no ${page#"$root"/}" >&2
    exit 1
fi

# The toolchain is found through HOME unless told otherwise; the blocks get a HOME of their own.
export CARGO_HOME="${CARGO_HOME:-${HOME:-}/.cargo}"
export RUSTUP_HOME="${RUSTUP_HOME:-${HOME:-}/.rustup}"
export PATH="$PATH:$CARGO_HOME/bin"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Writes each block to block-N.sh; a mark that no block follows is an error.
awk -v dir="$work" '
    function fail(line, why) {
        printf "readme.sh: line %d: %s\n", line, why > "/dev/stderr"
        bad = 1
        exit 1
    }
    inside && /^```[[:space:]]*$/ { close(file); inside = 0; next }
    inside { print > file; next }
    /^[[:space:]]*<!-- run -->[[:space:]]*$/ {
        if (marked) fail(marked, "a second mark follows before any block")
        marked = NR
        next
    }
    marked && /^```sh[[:space:]]*$/ {
        file = sprintf("%s/block-%03d.sh", dir, ++count)
        printf "" > file
        print NR > (file ".line")
        close(file ".line")
        inside = NR
        marked = 0
        next
    }
    marked && NF { fail(marked, "the mark is not followed by a block that opens with ```sh") }
    END {
        if (bad) exit 1
        if (inside) fail(inside, "the block is never closed")
        if (marked) fail(marked, "the mark is followed by nothing")
    }
' "$page"

ran=0
for block in "$work"/block-*.sh; do
    [ -f "$block" ] || continue
    line=$(cat "$block.line")
    if grep -Eq 'scripts/test\.sh|\.ci/run' "$block"; then
        echo "   line $line: skipped: it would run all the checks from within the checks"
        continue
    fi
    name=$(basename "$block" .sh)
    mkdir -p "$work/$name/tmp" "$work/$name/home"
    if env HOME="$work/$name/home" TMPDIR="$work/$name/tmp" \
        bash -euo pipefail "$block" >"$work/$name/log" 2>&1 </dev/null; then
        echo "   line $line: ok"
        ran=$((ran + 1))
    else
        echo "readme.sh: line $line: the block failed; it reads:" >&2
        sed 's/^/    /' "$block" >&2
        echo "readme.sh: and said:" >&2
        cat "$work/$name/log" >&2
        exit 1
    fi
done

if [ "$ran" -eq 0 ]; then
    echo "readme.sh: ${page#"$root"/} has no block to run:" \
        "put <!-- run --> above a \`\`\`sh block" >&2
    exit 1
fi
echo "   $ran block(s) of ${page#"$root"/} ran"
