#!/usr/bin/env bash
# A real Nomad on this host, for the tests: one server with access control and several client agents, loopback only,
# everything in one private folder outside the checkout.
#
#   nomad.sh install              build Nomad from the Go module proxy (go, gcc; some minutes), unless it is cached
#   nomad.sh start [NODES]        start the server and NODES client agents (2), wait until all are ready
#   nomad.sh env                  print what to export: eval "$(tests/clusters/nomad.sh env)"
#   nomad.sh status               exit 0 when the server answers and a node is ready
#   nomad.sh kill-server          kill -9 the server; nodes and their tasks live on
#   nomad.sh start-server         start it again
#   nomad.sh kill-node n2         kill -9 one client agent and every process of its tasks, as when its host dies
#   nomad.sh start-node n2        start it again
#   nomad.sh stop                 stop all agents and their tasks, keep the folder
#   nomad.sh clean                stop, then remove the folder
#
# Environment: TWISTER2_NOMAD_HOME     the folder (default: ${TMPDIR:-/tmp}/twister2-nomad)
#              TWISTER2_CLUSTERS_CACHE where built programs are kept (default: ~/.cache/twister2-clusters)
#              TWISTER2_NOMAD_MHZ, TWISTER2_NOMAD_MEM  what each node pretends to have (64000 MHz, 32000 MB)
#              TWISTER2_NOMAD_REGION   its region (global)
#              TWISTER2_NOMAD_TLS      when set: https and certificates for everybody, clients too
#              TWISTER2_NOMAD_PYTHON   when set: nodes have the driver exec, too; its tasks find this interpreter, with what
#                                      it has of the project, at its own path
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

home=${TWISTER2_NOMAD_HOME:-${TMPDIR:-/tmp}/twister2-nomad}
cache=${TWISTER2_CLUSTERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twister2-clusters}
version=1.6.1 # the last line under the MPL-2.0 that the proxy has
api=v0.0.0-20230721134942-515895c7690c # its api module is one of its own, and not every commit of it is there
here=$(cd "$(dirname "$0")/nomad" && pwd)
program=$cache/nomad-$version/nomad
mhz=${TWISTER2_NOMAD_MHZ:-64000}
mem=${TWISTER2_NOMAD_MEM:-32000}
region=${TWISTER2_NOMAD_REGION:-global}


build() {
  [ ! -x "$program" ] || { say "is built: $program"; return; }
  command -v go >/dev/null && command -v gcc >/dev/null || die "go and gcc are needed to build Nomad"
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/t2-nomad-build.XXXXXX")
  mkdir -p "${program%/*}"
  (
    cd "$folder"
    # "go install" refuses modules with replace lines: they are repeated here.
    cat >go.mod <<MOD
module nomadbuild
go 1.20
require (
	github.com/hashicorp/nomad v$version
	github.com/hashicorp/nomad/api $api
)
replace (
	github.com/Microsoft/go-winio => github.com/endocrimes/go-winio v0.4.13-0.20190628114223-fb47a8b41948
	github.com/armon/go-metrics => github.com/armon/go-metrics v0.0.0-20230509193637-d9ca9af9f1f9
	github.com/hashicorp/hcl => github.com/hashicorp/hcl v1.0.1-0.20201016140508-a07e7d50bbee
	github.com/hashicorp/nomad/api => github.com/hashicorp/nomad/api $api
)
MOD
    go mod download "github.com/hashicorp/nomad@v$version"
    # Nomad's own sums pin its whole graph of modules.
    install -m 644 "$(go env GOMODCACHE)/github.com/hashicorp/nomad@v$version/go.sum" go.sum
    CGO_ENABLED=1 go build -mod=mod -trimpath -tags ui,release,codegen_generated -ldflags "-s -w" -o nomad.new github.com/hashicorp/nomad
    mv nomad.new "$program"
  ) >&2 || { rm -rf -- "$folder"; die "Nomad could not be built"; }
  rm -rf -- "$folder"
}

# Ports: a block that is free now, remembered in the folder so that a restarted agent finds the others.
port_base() {
  if [ ! -s "$home/ports" ]; then
    local base
    for base in $(seq 24700 40 25900); do
      listens "$base" || listens $((base + 1)) || listens $((base + 3)) || { echo "$base" >"$home/ports"; break; }
    done
  fi
  [ -s "$home/ports" ] || die "no free block of ports between 24700 and 25900"
  cat "$home/ports"
}

call() { # PATH [curl options]: the API, as the one who may do everything
  local path=$1 token=()
  shift
  [ ! -s "$home/token" ] || token=(-H "X-Nomad-Token: $(cat "$home/token")")
  [ ! -s "$home/tls/ca.crt" ] || token+=(--cacert "$home/tls/ca.crt" --cert "$home/tls/user.crt" --key "$home/tls/user.key")
  curl -sf --max-time 10 "${token[@]}" "$@" "$(address)/v1$path"
}

address() { if [ -s "$home/tls/ca.crt" ]; then echo "https://127.0.0.1:$(port_base)"; else echo "http://127.0.0.1:$(port_base)"; fi; }

# An authority of its own, and certificates as Nomad wants them: agents' are for their role and region.
certificates() {
  [ -n "${TWISTER2_NOMAD_TLS:-}" ] && [ ! -s "$home/tls/ca.crt" ] || return 0
  command -v openssl >/dev/null || die "openssl is needed for TLS"
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes) name
  mkdir -p "$home/tls"
  (
    umask 077
    cd "$home/tls"
    openssl req -x509 "${key[@]}" -days 30 -subj "/CN=another authority" -keyout other.key -out other-ca.crt
    openssl req -x509 "${key[@]}" -days 30 -subj "/CN=authority" -keyout ca.key -out ca.new
    for name in agent user; do
      openssl req "${key[@]}" -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
      openssl x509 -req -in "$name.csr" -CA ca.new -CAkey ca.key -CAcreateserial -days 30 -out "$name.crt" -extfile \
        <(echo "subjectAltName=DNS:server.$region.nomad,DNS:client.$region.nomad,DNS:localhost,IP:127.0.0.1")
    done
    mv ca.new ca.crt
  ) 2>/dev/null || die "no certificates could be made in $home/tls"
}

tls() {
  [ ! -s "$home/tls/ca.crt" ] || cat <<CONF
tls {
  http      = true
  rpc       = true
  ca_file   = "$home/tls/ca.crt"
  cert_file = "$home/tls/agent.crt"
  key_file  = "$home/tls/agent.key"
  verify_server_hostname = true
  verify_https_client    = true
}
CONF
}

agent() { # NAME CONFIGURATION: start an agent with a clean environment, which raw_exec hands down to tasks
  local name=$1
  ! alive "$home/run/$name.pid" || return 0
  mkdir -p "$home/$name"
  cat >"$home/$name.hcl"
  (exec setsid env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 \
    "$program" agent -config="$home/$name.hcl" >>"$home/log/$name.log" 2>&1 </dev/null) &
  echo $! >"$home/run/$name.pid"
}

common() { # NAME NUMBER
  local port=$(($(port_base) + 3 * $2))
  cat <<CONF
name = "$1"
region = "$region"
data_dir = "$home/$1"
bind_addr = "127.0.0.1"
disable_update_check = true
leave_on_interrupt = false
leave_on_terminate = false
ports {
  http = $port
  rpc  = $((port + 1))
  serf = $((port + 2))
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
acl {
  enabled = true
  token_min_expiration_ttl = "1s"
}
CONF
  tls
}

# A lost node is noticed within seconds, and a restarted server elects itself at once.
start_server() {
  { common server 0; cat <<'CONF'
server {
  enabled            = true
  bootstrap_expect   = 1
  raft_multiplier    = 1
  min_heartbeat_ttl  = "2s"
  heartbeat_grace    = "3s"
  failover_heartbeat_ttl = "8s"
}
CONF
  } | agent server
}

start_node() { # n2
  local number=${1#n}
  { common "$1" "$number"; cat <<CONF
client {
  enabled           = true
  network_interface = "lo"
  cpu_total_compute = $mhz
  memory_total_mb   = $mem
  servers           = ["127.0.0.1:$(($(port_base) + 1))"]
  gc_max_allocs     = 500
  options = {
    "driver.allowlist"     = "raw_exec$([ ! -d "$home/root" ] || echo ,exec)"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
  chroot_env {
    "$home/root" = "/"
  }
}
plugin "raw_exec" {
  config { enabled = true }
}
CONF
  } | agent "$1"
}

has_leader() { call /status/leader | grep -q :; }
ready_nodes() { call /nodes | grep -o '"Status":"ready"' | wc -l; }
all_ready() { [ "$(ready_nodes)" -ge "$1" ]; }

bootstrap() {
  [ ! -s "$home/token" ] || return 0
  (umask 077 && call /acl/bootstrap -X POST | sed -n 's/.*"SecretID":"\([^"]*\)".*/\1/p' >"$home/token.new")
  [ -s "$home/token.new" ] && mv "$home/token.new" "$home/token"
}

start() { # NODES
  local nodes=$1 i
  [ -x "$program" ] || die "Nomad is not built; run: $0 install"
  [ "$nodes" -ge 1 ] && [ "$nodes" -le 12 ] || die "NODES must be 1 to 12, not $nodes"
  mkdir -p "$home"/{log,run}
  chmod 711 "$home"
  certificates
  if [ -n "${TWISTER2_NOMAD_PYTHON:-}" ] && [ ! -d "$home/root" ]; then
    "$TWISTER2_NOMAD_PYTHON" "$here/root.py" "$home/root.new" && mv "$home/root.new" "$home/root"
  fi
  start_server
  wait_for 30 has_leader || die "no leader after 30 s; logs: $home/log"
  wait_for 20 bootstrap || die "access control could not be set up; logs: $home/log"
  for i in $(seq 1 "$nodes"); do start_node "n$i"; done
  wait_for 60 all_ready "$nodes" || die "only $(ready_nodes) of $nodes nodes are ready after 60 s; logs: $home/log"
  say "$nodes nodes are ready; to use them: eval \"\$($0 env)\""
}

tasks_of() { # NODE: processes of its allocations
  local file
  for file in $(grep -lszE "^NOMAD_(ALLOC|TASK|SECRETS)_DIR=$home/$1/|^NOMAD_ALLOC_DIR=$home/$1/" /proc/[0-9]*/environ 2>/dev/null); do
    file=${file#/proc/}
    echo "${file%/environ}"
  done
}

kill_node() { # NODE
  local pids turn helpers=
  if alive "$home/run/$1.pid"; then
    helpers=$(pgrep -P "$(cat "$home/run/$1.pid")" || true) # executors and log collectors
    # shellcheck disable=SC2086 # a list
    kill -9 "$(cat "$home/run/$1.pid")" $helpers 2>/dev/null || true
  fi
  rm -f "$home/run/$1.pid"
  for turn in 1 2 3; do
    pids=$(tasks_of "$1")
    [ -n "$pids" ] || break
    # shellcheck disable=SC2086 # a list
    kill -9 $pids 2>/dev/null || true
    sleep 0.2
  done
}

stop() {
  [ -d "$home" ] || return 0
  local file
  for file in "$home"/run/n*.pid; do
    [ -e "$file" ] || continue
    file=${file##*/}
    kill_node "${file%.pid}"
  done
  kill_server
  rm -f "$home/ports" # found anew at the next start: somebody else may sit there by then
}

kill_server() {
  ! alive "$home/run/server.pid" || kill -9 "$(cat "$home/run/server.pid")"
  rm -f "$home/run/server.pid"
}

clean() {
  stop
  [ -d "$home" ] || return 0
  # Secrets of allocations are small file systems of their own.
  awk -v below="$home/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r folder; do
    umount "$folder" 2>/dev/null || umount -l "$folder"
  done
  ! grep -q " $home/" /proc/mounts || die "file systems are still mounted below $home"
  rm -rf -- "$home"
}

case ${1:-} in
  install) build ;;
  start)
    # One cluster at a time: ports that are free are taken only once an agent listens.
    if [ -x "$program" ] && [ "${alone:-}" != yes ]; then alone=yes exec flock -o "$program" "$0" "$@"; fi
    unset alone
    start "${2:-2}"
    ;;
  env)
    printf 'export NOMAD_ADDR=%q NOMAD_TOKEN=%q\n' "$(address)" "$(cat "$home/token")"
    [ ! -s "$home/tls/ca.crt" ] || printf 'export NOMAD_CACERT=%q NOMAD_CLIENT_CERT=%q NOMAD_CLIENT_KEY=%q\n' \
      "$home/tls/ca.crt" "$home/tls/user.crt" "$home/tls/user.key"
    # A pretended node has more MHz than its cores could: a CPU of a job is not one of the host's cores.
    printf 'export TWISTER2_NOMAD_HOME=%q TWISTER2__RM__NOMAD__CPU_MHZ=1000\n' "$home"
    ;;
  status) has_leader && all_ready 1 && call '/nodes' | grep -o '"Name":"[^"]*"\|"Status":"[^"]*"' ;;
  kill-server) kill_server ;;
  start-server) start_server; wait_for 30 has_leader || die "no leader after 30 s; logs: $home/log" ;;
  kill-node) kill_node "${2:?which node}" ;;
  start-node) start_node "${2:?which node}" ;;
  stop) stop ;;
  clean) clean ;;
  *) usage ;;
esac
