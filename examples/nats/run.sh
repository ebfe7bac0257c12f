#!/usr/bin/env bash
# Consumes a stream of a NATS server of its own, kills the consumer several times and the server once,
# and counts.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../ledger/drive.sh

need nats-server nats-server
build
port=$(free_port)
start_server() {
    start server nats-server -a 127.0.0.1 -p "$port" -js -sd "$work/jetstream"
    server_pid=${started[-1]}
    wait_for_port "$port"
}
start_server
server="nats://127.0.0.1:$port"
sent=$(timeout 60 "$program" produce "$server" "$payments")
consume_with_kills "$server"
count_effects "${sent#sent: }"
