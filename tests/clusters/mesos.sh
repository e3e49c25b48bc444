#!/usr/bin/env bash
# A real Mesos on this host, for the tests: the master and several agents of Mesos 1.11 in one process, loopback only,
# everything in one private folder outside the checkout.
#
#   mesos.sh install              fetch the library that holds master and agents (PyPI, x86-64), unless it is cached
#   mesos.sh start [AGENTS]       start the master with AGENTS agents (3), wait until all are registered
#   mesos.sh env                  print what to export: eval "$(tests/clusters/mesos.sh env)"
#   mesos.sh status               exit 0 when the master answers and has an agent
#   mesos.sh pause                stop the process, master and agents (SIGSTOP): nobody answers, copies live on
#   mesos.sh resume               let it go on
#   mesos.sh stop                 stop master and agents, and with them all tasks; keep the folder
#   mesos.sh clean                stop, then remove the folder
#
# The library is a Python 2 module that holds all of Mesos; mesos/launch.c loads it. The programs beside the agent
# (executor, fetcher, containerizer) are not in it: mesos/companions.py stands in for them.
#
# Environment: TWISTER2_MESOS_HOME     the folder (default: ${TMPDIR:-/tmp}/twister2-mesos)
#              TWISTER2_CLUSTERS_CACHE where what was fetched is kept (default: ~/.cache/twister2-clusters)
#              TWISTER2_MESOS_RESOURCES what each agent pretends to have (cpus:16;mem:16000;disk:20000)
#              TWISTER2_MESOS_CREDENTIALS "name:secret name:secret": whom master and agents know; nobody else may ask
#              TWISTER2_MESOS_ACLS      what principals may do, as Mesos' JSON has it (everything)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

here=$(cd "$(dirname "$0")/mesos" && pwd)
home=${TWISTER2_MESOS_HOME:-${TMPDIR:-/tmp}/twister2-mesos}
cache=${TWISTER2_CLUSTERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twister2-clusters}/mesos-1.11.0
resources=${TWISTER2_MESOS_RESOURCES:-cpus:16;mem:16000;disk:20000;ports:[31000-31999]}


packages=(libsvn1 libsasl2-2 libapr1)

# TLS stays off, so that for the old libraries of OpenSSL and curl that it names empty functions are enough.
stub() { # PATTERN LIBRARY
  nm -D --undefined-only "$cache/_scheduler.so" | awk '{print $2}' | grep -E "$1" | sed 's/@.*//' | sort -u |
    awk '{ print "long " $1 "(void) { return 0; }" }' >"$cache/stubs/stub.c" || true
  gcc -shared -fPIC -w "-Wl,-soname,$2" -o "$cache/stubs/$2" "$cache/stubs/stub.c"
}

fetch() {
  [ "$(uname -m)" = x86_64 ] || die "the library is for x86-64 only"
  command -v gcc >/dev/null && command -v nm >/dev/null || die "gcc and binutils are needed"
  install_packages
  mkdir -p "$cache/stubs"
  if [ ! -f "$cache/_scheduler.so" ]; then
    # pip before 24 reads the version's old form; it unpacks the archive, and then finds no project in it.
    local folder library
    folder=$(mktemp -d "${TMPDIR:-/tmp}/t2-mesos.XXXXXX")
    python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install -q 'pip<24' >&2
    TMPDIR=$folder "$folder/venv/bin/pip" download -q --no-clean --no-deps --no-build-isolation -d "$folder" \
      'mesos.scheduler===1.11.0.linux-x86_64' >"$folder/pip.log" 2>&1 || true
    library=$(find "$folder" -name _scheduler.so | head -1)
    [ -n "$library" ] || { tail -3 "$folder/pip.log" >&2; rm -rf -- "$folder"; die "the library could not be fetched"; }
    mv "$library" "$cache/_scheduler.so"
    rm -rf -- "$folder"
  fi
  stub '@OPENSSL_1' libssl.so.1.0.0
  stub '@CURL' libcurl.so.4
  stub '@NOTHING_AT_ALL' libcrypto.so.1.0.0
  gcc -O1 -rdynamic -w -o "$cache/launch" "$here/launch.c" -ldl
}

port() {
  if [ ! -s "$home/port" ]; then
    local each
    for each in $(seq 15050 7 15800 | shuf); do # not all that start at a time try the same one
      listens "$each" || { echo "$each" >"$home/port"; break; }
    done
  fi
  [ -s "$home/port" ] || die "no free port between 15050 and 15800"
  cat "$home/port"
}

registered() {
  local who=()
  [ ! -s "$home/who" ] || who=(-K "$home/who")
  curl -sf --max-time 5 "${who[@]}" "http://127.0.0.1:$(port)/slaves" | grep -o '"pid"' | wc -l
}
all_registered() { [ "$(registered)" -ge "$1" ]; }

# Frameworks, operators and whoever reads agents' files: all by HTTP's Basic authentication.
authentication() {
  [ -n "${TWISTER2_MESOS_CREDENTIALS:-}" ] || return 0
  local each known=
  for each in $TWISTER2_MESOS_CREDENTIALS; do
    known+="${known:+, }{\"principal\": \"${each%%:*}\", \"secret\": \"${each#*:}\"}"
  done
  (
    umask 077
    printf '{"credentials": [%s]}\n' "$known" >"$home/credentials"
    printf 'user = "%s"\n' "${TWISTER2_MESOS_CREDENTIALS%% *}" >"$home/who"
  )
  for each in FRAMEWORKS READONLY READWRITE; do echo "MESOS_AUTHENTICATE_HTTP_$each=true"; done
  echo MESOS_HTTP_FRAMEWORK_AUTHENTICATORS=basic
  echo "MESOS_CREDENTIALS=$home/credentials"
  echo "MESOS_HTTP_CREDENTIALS=$home/credentials"
}

start() { # AGENTS
  [ -x "$cache/launch" ] || die "Mesos is not installed; run: $0 install"
  if alive "$home/pid"; then say "already running in $home"; return; fi
  mkdir -p "$home/programs"
  port >/dev/null # chosen before two look for one at a time
  rm -rf -- "$home/work" # of agents at another port, which these could not take over
  local name more=()
  mapfile -t more < <(authentication)
  [ -z "${TWISTER2_MESOS_ACLS:-}" ] || more+=("MESOS_ACLS=$TWISTER2_MESOS_ACLS")
  for name in mesos-containerizer mesos-executor mesos-fetcher; do
    install -m 755 "$here/companions.py" "$home/programs/$name"
  done
  (exec setsid env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 \
    LD_LIBRARY_PATH="$cache/stubs" LIBPROCESS_IP=127.0.0.1 LIBPROCESS_PORT="$(port)" LIBPROCESS_SSL_ENABLED=false \
    TWISTER2_MESOS_AGENTS="$1" TWISTER2_MESOS_WORK="$home/work" MESOS_LAUNCHER_DIR="$home/programs" \
    MESOS_LAUNCHER=posix MESOS_ISOLATION=posix/cpu,posix/mem MESOS_CONTAINERIZERS=mesos MESOS_REGISTRY=in_memory \
    MESOS_HOSTNAME=127.0.0.1 MESOS_HTTP_COMMAND_EXECUTOR=true MESOS_ALLOCATION_INTERVAL=200ms MESOS_SWITCH_USER=false \
    MESOS_RESOURCES="$resources" MESOS_ATTRIBUTES="rack:r1;os:debian12" "${more[@]}" \
    "$cache/launch" "$cache/_scheduler.so" >"$home/log" 2>&1 </dev/null) &
  echo $! >"$home/pid"
  wait_for 40 all_registered "$1" || die "only $(registered) of $1 agents after 40 s; log: $home/log"
  say "$1 agents are registered; to use them: eval \"\$($0 env)\""
}

stop() {
  if alive "$home/pid"; then
    local pid
    pid=$(cat "$home/pid")
    kill -CONT "$pid" 2>/dev/null || true
    kill "$pid" 2>/dev/null || true
    # shellcheck disable=SC2016 # expanded by the inner shell
    wait_for 5 sh -c '! kill -0 "$1" 2>/dev/null' sh "$pid" || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$home/pid" "$home/port"
}

case ${1:-} in
  install) fetch ;;
  start) start "${2:-3}" ;;
  env)
    printf 'export TWISTER2__RM__MESOS__MASTERS=%q\n' "[\"http://127.0.0.1:$(port)\"]"
    printf 'export TWISTER2_MESOS_MASTER=%q TWISTER2_MESOS_HOME=%q\n' "http://127.0.0.1:$(port)" "$home"
    ;;
  status) all_registered 1 && echo "$(registered) agents at http://127.0.0.1:$(port)" ;;
  pause) kill -STOP "$(cat "$home/pid")" ;;
  resume) kill -CONT "$(cat "$home/pid")" ;;
  stop) stop ;;
  clean) stop; rm -rf -- "$home" ;;
  *) usage ;;
esac
