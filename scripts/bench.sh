#!/usr/bin/env bash
# Runs the standard set of benches/compare, writes its results to benches/results/ and draws the
# plots of README.md and docs/benchmarks.md from them. Some 25 to 30 minutes on a quiet machine with
# two cores. Progress goes to stderr, tables to stdout. Works from any folder; changes nothing else.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

usage() {
    cat <<'TEXT'
scripts/bench.sh [OPTION]...

  --quick          one run of everything, a million keys, a second a measurement: three minutes,
                   to see that all of it works; its figures say little
  --check          the smallest run of every workload, a few seconds without building; keeps nothing
  --keys N         keys of the main part (20M)
  --sizes A,B,...  keys of the part over sizes, beside those of the main part (1M,4M); 100M takes
                   12 GiB of memory and two minutes more for each run of each engine
  --runs N         runs of every measurement, of which the median counts (5)
  --threads N      threads (2)
  --only A,B,...   of the parts: maps stores synced services sizes latency mixes threads growth
                   reopen
  --steady SECONDS the workloads at a constant rate too, so many seconds each (0: not at all)
  --out DIR        where results and plots go (benches/results)
  --dir DIR        where the stores are while they are measured (beside the program)
  --rocksdb        RocksDB too; building it takes a C++ compiler, libclang and several minutes
  --program FILE   the program of benches/compare, already built
  --plots FILE     draws the plots from this file and measures nothing
  --parts          the benchmarks of the engine's parts, by criterion, and nothing else
TEXT
}

keys=20M
sizes=1M,4M
runs=5
threads=2
steady=0
out=benches/results
dir=
features=services
stores=lmdb,fjall,redb,sqlite
parts=maps,stores,synced,services,sizes,latency,mixes,threads,growth,reopen
mode=standard
plots_of=
compare=
# The longest measurements, in seconds: of all keys, of stores and servers, of synced calls, of what
# is measured once, of the part over sizes; and the longest warm-up.
seconds_map=15
seconds_store=1.2
seconds_synced=1.5
seconds_once=5
seconds_size=60
seconds_warm=1.5

die() {
    echo "bench.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
        --keys | --sizes | --runs | --threads | --only | --steady) ;&
        --out | --dir | --program | --plots)
            [ $# -ge 2 ] || die "$1 takes a value; --help tells which"
            ;;
    esac
    case "$1" in
        --quick) mode=quick ;;
        --check) mode=check ;;
        --parts) mode=parts ;;
        --keys) keys=$2; shift ;;
        --sizes) sizes=$2; shift ;;
        --runs) runs=$2; shift ;;
        --threads) threads=$2; shift ;;
        --only) parts=$2; shift ;;
        --steady) steady=$2; shift ;;
        --out) out=$2; shift ;;
        --dir) dir=$2; shift ;;
        --rocksdb) features=services,rocksdb; stores=$stores,rocksdb ;;
        --program) compare=$2; shift ;;
        --plots) plots_of=$2; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

for part in ${parts//,/ }; do
    case ",maps,stores,synced,services,sizes,latency,mixes,threads,growth,reopen," in
        *",$part,"*) ;;
        *) die "--only: there is no part $part" ;;
    esac
done
[[ "$steady" =~ ^[0-9]+$ ]] || die "--steady takes whole seconds"

if [ "$mode" = parts ]; then
    exec cargo bench --locked --bench parts
fi

say() { echo "bench.sh: $*" >&2; }

if [ -z "$compare" ]; then
    say "building"
    cargo build --quiet --release --locked --features "$features" \
        --manifest-path benches/compare/Cargo.toml
    compare=${CARGO_TARGET_DIR:-benches/compare/target}/release/oncelog-compare
fi
[ -x "$compare" ] || die "$compare is no program"

if [ -n "$plots_of" ]; then
    "$compare" --redraw "$plots_of" --plots "$out"
    exit 0
fi

work=
if [ "$mode" = check ]; then
    work=$(mktemp -d)
    # PostgreSQL's server runs as another user where this one is root.
    chmod 755 "$work"
    trap 'rm -rf "$work"' EXIT
    keys=20k sizes=5k,10k runs=1 out=$work dir=$work/stores
fi
if [ "$mode" = quick ]; then
    keys=1M sizes=250k,500k runs=1
fi
if [ "$mode" != standard ]; then
    seconds_map=1 seconds_store=0.5 seconds_synced=0.3 seconds_once=1 seconds_size=2 seconds_warm=0
fi

mkdir -p "$out"
results=$out/results.csv
curves=$out/curves.jsonl
failed=0
# Results of an earlier run, whose commit and machine may be others, do not mix with these.
rm -f "$results" "$curves"

load=$(cut -d ' ' -f 1 /proc/loadavg)
if [ "$mode" = standard ] && awk -v busy="$load" 'BEGIN { exit !(busy > 0.5) }'; then
    say "the machine is busy (load $load), and the plots will say so: better wait"
fi

# part NAME DESCRIPTION ARGUMENTS...
part() {
    local name=$1 what=$2 begin=$SECONDS
    shift 2
    case ",$parts," in *",$name,"*) ;; *) return 0 ;; esac
    say "$name: $what"
    echo "# $name: $what"
    [ -z "$dir" ] || set -- --dir "$dir" "$@"
    [[ " $* " == *" --runs "* ]] || set -- --runs "$runs" "$@"
    [[ " $* " == *" --threads "* ]] || set -- --threads "$threads" "$@"
    # An engine that fails does not end the run; the script fails in the end.
    "$compare" --csv "$results" --warm-up-seconds "$seconds_warm" "$@" >"$out/last.txt" || failed=1
    # Above the tables is a line of JSON for every run of every engine.
    grep -v '^{' "$out/last.txt" || true
    rm -f "$out/last.txt"
    say "$name took $((SECONDS - begin)) s"
}

part maps "new keys, duplicates and misses beside the maps in memory" \
    --engines oncelog,dashmap,papaya --workloads new,dup,miss \
    --keys "$keys" --batch 1,64 --seconds-max "$seconds_map"
# The stores are slow enough to be known after little more than a second; oncelog and the maps get
# through all keys.
part stores "beside the stores that keep what they answer, and a cache" \
    --engines "moka,$stores" --workloads new,dup,miss \
    --keys "$keys" --batch 1,1000 --seconds-max "$seconds_store"
part stores "the same batches" \
    --engines oncelog --workloads new,dup,miss \
    --keys "$keys" --batch 1000 --seconds-max "$seconds_map"
part synced "new keys on stable storage" \
    --engines "oncelog,oncelog-tickets,$stores" --workloads synced \
    --keys "$keys" --batch 1,1000 --seconds-max "$seconds_synced" --cold
part services "servers on the loopback, one command and a thousand at a time" \
    --engines redis,redis-aof,postgres --workloads new,dup,miss \
    --keys "$keys" --batch 1,1000 --seconds-max "$seconds_store" --cold
part sizes "what an operation takes as the keys grow more" \
    --engines oncelog,dashmap,papaya --workloads new,dup,miss \
    --keys "$sizes" --batch 1,64 --seconds-max "$seconds_size"
part latency "how long single calls take" \
    --engines "oncelog,dashmap,papaya,$stores" --workloads new,dup,miss --latency \
    --keys "$keys" --batch 1 --runs 1 --seconds-max "$seconds_once"
part mixes "new and known keys mixed, leases, one key under all threads" \
    --engines oncelog,dashmap,papaya --workloads mix,lease,hot \
    --keys "$keys" --batch 1,64 --runs 1 --seconds-max "$seconds_once"
part threads "more threads than cores" \
    --engines oncelog,dashmap,papaya --workloads new,dup,hot \
    --keys "$keys" --batch 1 --runs 1 --threads 8,64 --seconds-max "$seconds_map"
part growth "what growing costs, call by call" \
    --engines oncelog,dashmap,papaya --workloads growth \
    --keys "$keys" --runs 1 --seconds-max "$seconds_size"
part reopen "opening what was closed, and what was killed" \
    --engines "oncelog,$stores" --workloads reopen \
    --keys "$keys" --batch 1000 --runs 1 --seconds-max "$seconds_once"
if [ "$steady" -gt 0 ]; then
    parts=$parts,steady
    part steady "as many keys expire as arrive, mixed lifetimes, removals" \
        --engines oncelog,moka --workloads steady,mixed_ttl,remove_heavy \
        --keys "$keys" --batch 1 --runs 1 --threads 1 --seconds-max "$steady" \
        --json "$curves" --plots "$out"
fi

"$compare" --redraw "$results" --plots "$out"
if [ "$mode" = check ]; then
    for plot in throughput-{single,batch-64,batch-1000} memory latency size-single growth; do
        [ -s "$out/$plot.svg" ] || { say "FAILED: no $plot.svg was drawn"; failed=1; }
    done
else
    say "results in $results, plots beside it; took $SECONDS s"
fi
[ "$failed" = 0 ] || { say "FAILED: some engine did, see above"; exit 1; }
