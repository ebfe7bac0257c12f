#!/usr/bin/env bash
# Consumes a queue of a RabbitMQ server of its own, kills the consumer several times and the server
# once, and counts.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../ledger/drive.sh

need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
build
port=$(free_port)
# All that the server would keep in the system's folders, and the ports that it would share.
export HOME="$work"
export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$work/none"
export RABBITMQ_MNESIA_BASE="$work/mnesia" RABBITMQ_LOG_BASE="$work" RABBITMQ_LOGS=-
export RABBITMQ_ENABLED_PLUGINS_FILE="$work/plugins"
export RABBITMQ_NODENAME="oncelog-$$@localhost"
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
RABBITMQ_DIST_PORT=$(free_port)
ERL_EPMD_PORT=$(free_port)
export RABBITMQ_DIST_PORT ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
echo '[].' >"$work/plugins"
# Erlang's name server: the one that the broker would start by itself stays behind.
start names epmd
wait_for_port "$ERL_EPMD_PORT"
start_server() {
    start server /usr/lib/rabbitmq/bin/rabbitmq-server
    server_pid=${started[-1]}
    wait_for_port "$port"
}
start_server
server="amqp://guest:guest@127.0.0.1:$port/%2f"
sent=$(timeout 60 "$program" produce "$server" "$payments")
consume_with_kills "$server"
count_effects "${sent#sent: }"
