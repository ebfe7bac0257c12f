#!/usr/bin/env bash
# Consumes a topic of the mock cluster of librdkafka, kills the consumer several times, and counts.
# The cluster is in a process of its own, which lives on. Building it takes a C and a C++ compiler.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../ledger/drive.sh

need c++ g++
need make make
build
start broker "$program" broker "$payments"
until grep -q '^ready: ' "$work/broker.log"; do
    in_time
    kill -0 "${started[-1]}" 2>/dev/null || fail "the broker has ended"
    sleep 0.1
done
server=$(sed -n 's/^ready: //p' "$work/broker.log")
consume_with_kills "$server"
count_effects "$(sed -n 's/^sent: //p' "$work/broker.log")"
