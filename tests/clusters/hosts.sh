#!/usr/bin/env bash
# Pretended hosts on this one machine, each with an sshd of its own, for the tests: namespaces of network, processes,
# mounts, names and shared memory on a bridge, with a boot id, a /dev/shm, a state folder and a folder for sockets of its
# own. File systems are this machine's else, so that its Python runs on them. No process of one host sees those of
# another. Needs root.
#
#   hosts.sh install              install the packages that are missing (apt)
#   hosts.sh start [N]            start N hosts, h1 to hN (3), and wait until all take connections
#   hosts.sh env                  print what to export: eval "$(tests/clusters/hosts.sh env)"
#   hosts.sh status               the hosts that are up; exit 0 when there are some
#   hosts.sh run h1 COMMAND...    run a command on a host, without ssh
#   hosts.sh isolate h1           take its cable out
#   hosts.sh cut h1 h2            these two do not reach each other, others do
#   hosts.sh heal                 undo all isolate and cut
#   hosts.sh kill h1              the host dies: all its processes at once, and its cable is out
#   hosts.sh boot h1              start it again
#   hosts.sh newkey h1            it has another host key from now on, as a host that was installed anew
#   hosts.sh stop                 stop all, remove the folder
#
# Environment: TWISTER2_HOSTS_HOME  the folder (default: ${TMPDIR:-/tmp}/twister2-hosts); sets of hosts with different
#              folders do not see each other
#              TWISTER2_HOSTS_PIDS=shared  all hosts, and this machine, see each other's processes (no kill then)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

home=${TWISTER2_HOSTS_HOME:-${TMPDIR:-/tmp}/twister2-hosts}
PATH=$PATH:/usr/sbin:/sbin

packages=(openssh-server openssh-client iproute2)

# Names of this set of hosts on this machine: "mark net", drawn once. Links have names of at most 15 characters.
names() {
  [ -s "$home/names" ] || die "not started (no $home/names); run: $0 start"
  read -r mark net <"$home/names"
  bridge=t2h$mark
}
draw_names() {
  local try mark
  for try in {1..50}; do
    mark=$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
    net=10.$((64 + 0x${mark:0:2} % 64)).$((0x${mark:2:2}))
    ip -4 addr show | grep -q "inet $net\." || { echo "$mark $net" >"$home/names"; return; }
  done
  die "no free network after $try tries"
}
ns() { echo "t2h$mark-$1"; }
ip_of() { echo "$net.$((10 + ${1#h}))"; }
known() { [[ $1 =~ ^h[0-9]+$ ]] && [ -d "$home/$1" ] || die "no host $1 in $home"; }

write_files() { # N
  local i
  for i in id hostkey; do [ -e "$home/$i" ] || ssh-keygen -q -t ed25519 -N '' -C twister2-tests -f "$home/$i"; done
  cp "$home/id.pub" "$home/authorized_keys"
  { printf '127.0.0.1 localhost\n%s.1 base\n' "$net"; for i in $(seq 1 "$1"); do echo "$(ip_of "h$i") h$i"; done; } >"$home/hosts"
  {
    printf 'Host *\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n' "$home/id" "$home/known_hosts"
    printf '  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  User %s\n' "$(id -un)"
    for i in $(seq 1 "$1"); do printf 'Host h%d\n  HostName %s\n' "$i" "$(ip_of "h$i")"; done
  } >"$home/ssh_config"
  for i in $(seq 1 "$1"); do echo "h$i,$(ip_of "h$i") $(cut -d' ' -f1,2 "$home/hostkey.pub")"; done >"$home/known_hosts"
}

boot() { # HOST
  local host=$1 folder=$home/$1 key=$home/hostkey
  mkdir -p -m 700 "$folder/sockets" "/tmp/twister2-$(id -u)"
  ! alive "$folder/pid" || return 0
  [ ! -e "$folder/hostkey" ] || key=$folder/hostkey
  cat /proc/sys/kernel/random/uuid >"$folder/boot_id"
  ip netns del "$(ns "$host")" 2>/dev/null || true
  ip link del "$(link "$host")" 2>/dev/null || true
  ip netns add "$(ns "$host")"
  ip link add "$(link "$host")" type veth peer name eth0 netns "$(ns "$host")"
  ip link set "$(link "$host")" master "$bridge" up
  ip -n "$(ns "$host")" addr add "$(ip_of "$host")/24" dev eth0
  # the same after each boot: others remember it
  ip -n "$(ns "$host")" link set eth0 address "$(printf '02:%s:%s:%s:00:%02x' "${mark:0:2}" "${mark:2:2}" "${mark:4:2}" "${host#h}")" up
  ip -n "$(ns "$host")" link set lo up
  ip -n "$(ns "$host")" route add default via "$net.1"
  cat >"$folder/sshd_config" <<CONF
ListenAddress $(ip_of "$host")
Port 22
HostKey $key
PidFile none
AuthorizedKeysFile $home/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
SetEnv XDG_STATE_HOME=$folder/state
Subsystem sftp internal-sftp
CONF
  mkdir -p /run/sshd
  local pids=--pid
  [ "${TWISTER2_HOSTS_PIDS:-}" != shared ] || pids=--fork
  # A clean environment: sshd hands none of it on, but whoever looks at its processes should see nothing of a test.
  env -i PATH="$PATH" setsid nsenter --net="/run/netns/$(ns "$host")" \
    unshare --mount --uts --ipc $pids --fork --kill-child --propagation private sh -c "
      set -e
      hostname $host
      mount --bind $home/hosts /etc/hosts
      mount --bind $folder/sockets /tmp/twister2-$(id -u)
      mount -t tmpfs -o mode=1777 tmpfs /dev/shm
      mount -t proc proc /proc
      mount --bind $folder/boot_id /proc/sys/kernel/random/boot_id
      cd /
      exec /usr/sbin/sshd -D -e -f $folder/sshd_config" </dev/null >>"$folder/sshd.log" 2>&1 &
  echo $! >"$folder/pid"
}
link() { echo "t2h$mark-$1"; }

takes_connections() { timeout 1 bash -c "exec 3<>/dev/tcp/$(ip_of "$1")/22" 2>/dev/null; }

start() { # N
  local count=$1 i
  [ "$(id -u)" = 0 ] || die "namespaces are for root only"
  command -v sshd >/dev/null || die "sshd is not installed; run: $0 install"
  [ "$count" -ge 1 ] && [ "$count" -le 64 ] || die "N must be 1 to 64, not $count"
  mkdir -p "$home"
  home=$(cd "$home" && pwd -P)
  case $home in /tmp/*) ;; *) [ -w "$home" ] || die "cannot write $home" ;; esac
  [ -s "$home/names" ] || [ -z "$(ls -A "$home")" ] || die "$home has other files in it, which stop would remove"
  [ -s "$home/names" ] || draw_names
  names
  write_files "$count"
  ip link show "$bridge" >/dev/null 2>&1 || {
    ip link add name "$bridge" type bridge
    ip addr add "$net.1/24" dev "$bridge"
    ip link set "$bridge" up
  }
  for i in $(seq 1 "$count"); do boot "h$i"; done
  for i in $(seq 1 "$count"); do
    wait_for 20 takes_connections "h$i" || { tail -5 "$home/h$i/sshd.log" >&2; die "h$i did not come up in 20 s"; }
  done
  say "$count hosts are up: ssh -F $home/ssh_config h1"
}

kill_host() { # HOST
  local file=$home/$1/pid pid
  if alive "$file"; then
    pid=$(cat "$file")
    # the first process of the namespace takes all others with it, and unshare its child
    kill -9 "$pid" 2>/dev/null || true
    wait_for 10 sh -c "! kill -0 $pid 2>/dev/null" || say "$1: process $pid is still there"
  fi
  rm -f "$file"
  ip link del "$(link "$1")" 2>/dev/null || true
}

each_host() { for folder in "$home"/h[0-9]*/; do [ ! -d "$folder" ] || basename "$folder"; done; }

heal() {
  local host other
  for host in $(each_host); do
    ip link set "$(link "$host")" master "$bridge" 2>/dev/null || continue
    for other in $(each_host); do ip -n "$(ns "$host")" route del blackhole "$(ip_of "$other")" 2>/dev/null || true; done
  done
}

# the process that sees the host's own /proc: unshare's child
inside() { cut -d' ' -f1 <"/proc/$(cat "$home/$1/pid")/task/$(cat "$home/$1/pid")/children"; }

stop() {
  if [ ! -s "$home/names" ]; then # nothing of ours is in it: a folder with anything else stays
    [ ! -e "$home" ] || rmdir "$home" || die "$home is no folder of hosts, and stays"
    return
  fi
  names
  local host
  for host in $(each_host); do
    kill_host "$host"
    ip netns del "$(ns "$host")" 2>/dev/null || true
  done
  ip link del "$bridge" 2>/dev/null || true
  rm -rf -- "$home"
}

case ${1:-} in
  install) install_packages ;;
  start) start "${2:-3}" ;;
  env) names; printf 'export TWISTER2_HOSTS_HOME=%q\n' "$home" ;;
  status)
    names
    up=()
    for host in $(each_host); do ! alive "$home/$host/pid" || up+=("$host"); done
    [ ${#up[@]} -gt 0 ] || die "no host is up"
    echo "${up[*]}"
    ;;
  run) names; known "${2:?which host}"; pid=$(inside "$2"); shift 2; exec nsenter -t "$pid" -a "$@" ;;
  isolate) names; known "${2:?which host}"; ip link set "$(link "$2")" nomaster ;;
  cut)
    names
    known "${2:?which host}"
    known "${3:?from which host}"
    ip -n "$(ns "$2")" route add blackhole "$(ip_of "$3")"
    ip -n "$(ns "$3")" route add blackhole "$(ip_of "$2")"
    ;;
  heal) names; heal ;;
  kill) names; known "${2:?which host}"; kill_host "$2" ;;
  boot) names; known "${2:?which host}"; boot "$2"; wait_for 20 takes_connections "$2" || die "$2 did not come up in 20 s" ;;
  newkey)
    names
    known "${2:?which host}"
    ssh-keygen -q -t ed25519 -N '' -C another -f "$home/$2/hostkey" <<<y >/dev/null
    kill_host "$2"
    boot "$2"
    wait_for 20 takes_connections "$2" || die "$2 did not come up in 20 s"
    ;;
  stop) stop ;;
  *) usage ;;
esac
