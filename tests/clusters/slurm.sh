#!/usr/bin/env bash
# A real Slurm with several pretended nodes on this one host, for the tests: no systemd, loopback only,
# everything in one private folder outside the checkout.
#
#   slurm.sh install              install the packages that are missing (apt; needs root)
#   slurm.sh start [NODES]        start munge, the controller and NODES node daemons (4), wait until all are idle
#   slurm.sh env                  print what to export: eval "$(tests/clusters/slurm.sh env)"
#   slurm.sh status               exit 0 when the controller answers
#   slurm.sh kill-node n2         kill -9 one node daemon and every process of its steps, as when its host dies
#   slurm.sh start-node n2        start it again
#   slurm.sh stop-controller      stop the controller only; 'start' starts it again
#   slurm.sh stop                 stop all daemons, keep the folder
#   slurm.sh clean                stop, then remove the folder
#
# Environment: TWISTER2_SLURM_HOME  the folder (default: ${TMPDIR:-/tmp}/twister2-slurm)
#              TWISTER2_SLURM_CPUS, TWISTER2_SLURM_MEM  what each node pretends to have (8 CPUs, 8000 MB)
#              TWISTER2_SLURM_CGROUP=1  jobs have no more memory than they asked for (control groups of
#                                       version 1; needs root)
#              TWISTER2_SLURM_DBD=1     accounting: slurmdbd with a MariaDB of its own; limits are enforced, and the
#                                       controller forgets jobs soon after their end
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

home=${TWISTER2_SLURM_HOME:-${TMPDIR:-/tmp}/twister2-slurm}
cpus=${TWISTER2_SLURM_CPUS:-8}
mem=${TWISTER2_SLURM_MEM:-8000}
export SLURM_CONF=$home/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2
  slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core)

# Slurm's PMIx plugin loads its library by a name that only the development package has, which brings ten others along.
link_pmix() {
  local library
  library=$(dpkg-query -L libpmix2 2>/dev/null | grep -m 1 '/pmix2/lib/libpmix\.so\.[0-9.]*$') || return 0
  local link=${library%/*}/libpmix.so
  [ -e "$link" ] || [ "$(id -u)" != 0 ] || ln -s "${library##*/}" "$link"
}

# Ports: a block of 40 that is free now, remembered in the folder so that a restarted daemon finds the others. The first
# is the controller's, then come the nodes', the last is slurmdbd's.
port_base() {
  if [ ! -s "$home/ports" ]; then
    local base
    for base in $(seq 16800 40 17760 | shuf); do # not all that start at a time try the same one
      listens "$base" || listens $((base + 1)) || { echo "$base" >"$home/ports"; break; }
    done
  fi
  [ -s "$home/ports" ] || die "no free block of ports between 16800 and 17800"
  cat "$home/ports"
}

write_conf() { # NODES
  local nodes=$1 base host proctrack=proctrack/linuxproc task=task/none age=3600 first=1
  local accounting=AccountingStorageType=accounting_storage/none
  base=$(port_base)
  host=$(hostname -s)
  if [ -n "${TWISTER2_SLURM_CGROUP:-}" ]; then
    proctrack=proctrack/cgroup task=task/cgroup
    first=$((base * 100)) # groups are called by the number of their job, and another cluster may run here
    # Cores stay free: nodes pretend to have more of them than there are.
    cat >"$home/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=yes
CONF
  fi
  if [ -n "${TWISTER2_SLURM_DBD:-}" ]; then
    age=5
    accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((base + 39))
AccountingStoragePass=$home/munge/socket
AccountingStorageEnforce=associations,limits,qos"
  fi
  # TmpFS per node: the PMIx plugins of several pretended nodes would fight over one folder in /tmp.
  # config_overrides: a node may claim more CPUs and memory than the host has.
  # NoInAddrAny: without it the daemons listen on every address of the host.
  # DefMemPerCPU: without it one job takes all memory of a node and nothing else fits beside it.
  cat >"$SLURM_CONF" <<CONF
ClusterName=twister2
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$base
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool/%n
TmpFS=$home/tmp/%n
SlurmctldPidFile=$home/run/slurmctld.pid
SlurmdPidFile=$home/run/slurmd-%n.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd-%n.log
ProctrackType=$proctrack
TaskPlugin=$task
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
SlurmctldTimeout=10
SlurmdTimeout=10
SlurmdParameters=config_overrides
KillWait=2
BatchStartTimeout=10
MinJobAge=$age
FirstJobId=$first
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
$accounting
JobCompType=jobcomp/none
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + nodes))] CPUs=$cpus RealMemory=$mem State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start_munge() {
  alive "$home/munge/pid" && return
  rm -f "$home/munge/socket" "$home/munge/socket.lock"
  [ -s "$home/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$home/munge/key")
  # --force: munged warns about every folder above the socket that others may write, such as /tmp
  munged --force --key-file="$home/munge/key" --socket="$home/munge/socket" --pid-file="$home/munge/pid" \
    --log-file="$home/munge/log" --seed-file="$home/munge/seed" >>"$home/log/munged.out" 2>&1
}

# The database of slurmdbd, which listens at a socket only.
start_database() {
  local options=(--no-defaults --user="$(id -un)" --datadir="$home/db" --innodb-log-file-size=8M)
  alive "$home/run/mariadbd.pid" && return
  [ -d "$home/db/mysql" ] || mariadb-install-db "${options[@]}" --skip-test-db --auth-root-authentication-method=socket \
    --auth-root-socket-user="$(id -un)" >"$home/log/mariadb-install.log" 2>&1 || die "no database; logs: $home/log"
  rm -f "$home/db.socket"
  setsid mariadbd "${options[@]}" --skip-networking --socket="$home/db.socket" --pid-file="$home/run/mariadbd.pid" \
    --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 </dev/null >"$home/log/mariadbd.log" 2>&1 &
  wait_for 60 test -S "$home/db.socket" || die "MariaDB does not start; logs: $home/log"
}

start_accounting() {
  alive "$home/run/slurmdbd.pid" && return
  (umask 077 && cat >"$home/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=$(($(port_base) + 39))
CommunicationParameters=NoInAddrAny
SlurmUser=$(id -un)
PidFile=$home/run/slurmdbd.pid
LogFile=$home/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$(id -un)
StorageLoc=slurm_acct
CONF
  )
  MYSQL_UNIX_PORT=$home/db.socket slurmdbd # its library asks this variable for the socket
  wait_for 60 sacctmgr -n show cluster || die "slurmdbd does not answer; logs: $home/log"
  sacctmgr -n show cluster | grep -qw twister2 || sacctmgr -i add cluster twister2 >/dev/null
}

start_node() { # NODE
  mkdir -p "$home/spool/$1" "$home/tmp/$1"
  alive "$home/run/slurmd-$1.pid" || slurmd -N "$1" -f "$SLURM_CONF"
}

idle_nodes() { sinfo -h -N -t idle,mixed,allocated -o %N 2>/dev/null | sort -u | wc -l; }
all_idle() { [ "$(idle_nodes)" = "$1" ]; }

start() { # NODES
  local nodes=$1 tool i tools=(munged slurmctld slurmd sinfo)
  [ -z "${TWISTER2_SLURM_DBD:-}" ] || tools+=(slurmdbd mariadbd mariadb-install-db my_print_defaults)
  for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || die "$tool is not installed; run: $0 install"
  done
  if [ -n "${TWISTER2_SLURM_CGROUP:-}" ]; then
    [ -w /sys/fs/cgroup/memory ] && [ -w /sys/fs/cgroup/freezer ] ||
      die "TWISTER2_SLURM_CGROUP needs control groups of version 1 (memory, freezer) that may be made here"
  fi
  [ ${#home} -le 80 ] || die "TWISTER2_SLURM_HOME is longer than the 80 characters a socket path leaves room for: $home"
  [ "$nodes" -ge 1 ] && [ "$nodes" -le 32 ] || die "NODES must be 1 to 32, not $nodes"
  mkdir -p "$home"/{state,spool,tmp,log,run,munge}
  chmod 755 "$home" "$home/munge" # munged refuses a socket folder that others may not enter
  if alive "$home/run/slurmctld.pid"; then
    say "already running in $home"
  else
    [ -z "${TWISTER2_SLURM_DBD:-}" ] || start_database
    write_conf "$nodes"
    start_munge
    [ -z "${TWISTER2_SLURM_DBD:-}" ] || start_accounting
    slurmctld -f "$SLURM_CONF"
  fi
  nodes=$(grep -c . < <(scontrol show hostnames "$(sed -n 's/^NodeName=\(\S*\) .*/\1/p' "$SLURM_CONF")"))
  for i in $(seq 1 "$nodes"); do start_node "n$i"; done
  wait_for 60 all_idle "$nodes" || { sinfo -N -l >&2 || true; die "only $(idle_nodes) of $nodes nodes came up in 60 s; logs: $home/log"; }
  say "$nodes nodes are up; to use them: eval \"\$($0 env)\""
}

# Ends the processes named by the pid files: TERM, 15 s later KILL.
end() {
  local file pid pids=()
  for file in "$@"; do
    if alive "$file"; then
      pid=$(cat "$file")
      kill "$pid" 2>/dev/null || true
      pids+=("$pid")
    fi
  done
  for pid in "${pids[@]}"; do
    # shellcheck disable=SC2016 # expanded by the inner shell
    wait_for 15 sh -c '! kill -0 "$1" 2>/dev/null' sh "$pid" || kill -9 "$pid" 2>/dev/null || true
  done
  rm -f "$@"
}

steps_of() { # NODE: pids of its step daemons, which have its log open, and of what carries its name
  {
    find /proc/[0-9]*/fd -lname "$home/log/slurmd-$1.log" 2>/dev/null || true
    grep -lszxF "SLURMD_NODENAME=$1" /proc/[0-9]*/environ | xargs -r grep -lszxF "SLURM_CONF=$SLURM_CONF" || true
  } | cut -d / -f 3 | sort -u
}

kill_node() { # NODE
  local turn pids
  for turn in 1 2 3; do
    pids=$(steps_of "$1")
    [ -n "$pids" ] || break
    # shellcheck disable=SC2086 # a list
    kill -9 $pids 2>/dev/null || true
    sleep 0.2
  done
  rm -f "$home/run/slurmd-$1.pid"
}

no_jobs() { [ -z "$(squeue -h -t running,completing -o %i)" ]; }

stop() {
  [ -d "$home" ] || return 0
  if alive "$home/run/slurmctld.pid"; then
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    wait_for 15 no_jobs || say "jobs are still there after 15 s: $(squeue -h -o %i | tr '\n' ' ')"
  fi
  # Nodes first: a controller told to stop while nodes still register waits for them.
  end "$home"/run/slurmd-*.pid
  end "$home/run/slurmctld.pid"
  end "$home/run/slurmdbd.pid"
  end "$home/run/mariadbd.pid"
  end "$home/munge/pid"
  rm -f "$home/ports" # found anew at the next start: somebody else may sit there by then
}

case ${1:-} in
  install) install_packages && link_pmix ;;
  start) start "${2:-4}" ;;
  env) printf 'export SLURM_CONF=%q\n' "$SLURM_CONF" ;;
  status) scontrol ping && sinfo -N -l ;;
  kill-node)
    alive "$home/run/slurmd-${2:?which node}.pid" || die "no daemon of node $2 runs in $home"
    kill_node "$2"
    ;;
  start-node) start_node "${2:?which node}" ;;
  stop-controller) end "$home/run/slurmctld.pid" ;;
  stop) stop ;;
  clean) stop; rm -rf -- "$home" ;;
  *) usage ;;
esac
