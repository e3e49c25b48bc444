#!/usr/bin/env bash
# A real Kubernetes on this one host, for the tests: API server, etcd, controller manager, scheduler, and kubelets with
# containerd and runc that run real pods. No systemd, no registry, nothing in the host's own network but one bridge: every
# machine of the cluster is a network, mount and UTS namespace (cp = control plane, k1... = nodes).
#
#   k8s.sh install              install the packages that are missing (apt; needs root), then build
#   k8s.sh build                build Kubernetes from the Go module proxy (8 minutes on 2 cores; kept for the next time)
#   k8s.sh start [NODES]        start the cluster with NODES nodes (2), wait until all are ready, load the workers' image
#   k8s.sh env                  print what to export: eval "$(tests/clusters/k8s.sh env)"
#   k8s.sh status               exit 0 when the API server answers
#   k8s.sh kubectl ...          kubectl as administrator
#   k8s.sh load [IMAGE.tar]     give an image to all nodes; without one: the workers' image, as the checkout is now
#   k8s.sh kill-node k2         kill -9 a node: kubelet, containerd and pods, as when its power fails
#   k8s.sh start-node k2        start it again
#   k8s.sh stop-server, start-server   the API server alone: pods go on without it
#   k8s.sh stop                 stop everything, keep the folder
#   k8s.sh clean                stop, then remove the folder
#
# Environment: TWISTER2_K8S_HOME   the folder (default: ${TMPDIR:-/tmp}/twister2-k8s)
#              TWISTER2_K8S_CACHE  what was built (default: ~/.cache/twister2-clusters/kubernetes)
#              TWISTER2_K8S_PYTHON the interpreter whose file tree becomes the workers' image (default: .venv/bin/python)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

here=$(cd "$(dirname "$0")" && pwd)
home=${TWISTER2_K8S_HOME:-${TMPDIR:-/tmp}/twister2-k8s}
cache=${TWISTER2_K8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twister2-clusters/kubernetes}
python=${TWISTER2_K8S_PYTHON:-$here/../../.venv/bin/python}
version=1.34.4
PATH=$cache:$PATH:/usr/sbin:/sbin

# Two clusters on one host keep apart by their folders.
mark=$(printf %s "$home" | cksum | cut -d ' ' -f 1)
short=t2k$((mark % 10000))
net=10.$((150 + mark % 50)).$((mark / 50 % 250)) # cp is .10, kI is .(10+I), the host's side of the bridge .1
bridge=$short-br
pods=10.244 services=10.96.0
admin=$home/admin.kubeconfig

k() { kubectl --kubeconfig "$admin" "$@"; }

packages=(containerd runc containernetworking-plugins nftables iptables conntrack iproute2 openssl curl)

build() {
  command -v go >/dev/null || { [ ! -x /usr/local/go/bin/go ] || PATH=$PATH:/usr/local/go/bin; }
  if [ ! -x "$cache/kube" ] || [ "$(cat "$cache/version" 2>/dev/null)" != "$version" ] || [ ! -x "$cache/pause" ]; then
    command -v go >/dev/null || die "Go is not installed, and Kubernetes is not built yet: see https://go.dev/doc/install"
    "$here/k8s/build.sh" "$cache" "$version" >&2
  fi
}

# -- machines: an anchor process owns the namespaces -------------------------------------------------------------------

inside() { # MACHINE COMMAND...
  local machine=$1
  shift
  nsenter -t "$(cat "$home/$machine/run/anchor.pid")" -n -m -u "$@"
}

machine() { # MACHINE ADDRESS
  local name=$1 address=$2 folder=$home/$1
  mkdir -p "$folder"/{run,log}
  alive "$folder/run/anchor.pid" && return
  ip netns del "$short-$name" 2>/dev/null || true
  ip netns add "$short-$name"
  ip link add "$short-$name" type veth peer name eth0 netns "$short-$name"
  ip link set "$short-$name" master "$bridge" up
  ip -n "$short-$name" addr add "$address/24" dev eth0
  ip -n "$short-$name" link set eth0 up
  ip -n "$short-$name" link set lo up
  ip -n "$short-$name" route add default via "$net.1"
  # 'ip netns exec' would mount /sys anew and hide the control groups. containerd and kubelet need the same mounts, shared;
  # a tmpfs on /run/netns makes the pods' own namespaces go with the machine.
  local own=(var/lib/kubelet run/containerd var/log/pods var/log/containers etc/cni/net.d) each mounts=""
  for each in "${own[@]}"; do
    mkdir -p "$folder/root/$each" "/$each"
    mounts+="mount --bind '$folder/root/$each' '/$each'; "
  done
  mkdir -p /run/netns
  nsenter --net="/run/netns/$short-$name" unshare --mount --uts --propagation private bash -c "
    hostname $name; $mounts mount -t tmpfs tmpfs /run/netns; mount --make-rshared /
    sysctl -qw net.ipv4.ip_forward=1 || true; touch '$folder/run/ready'; exec sleep infinity" </dev/null >"$folder/log/anchor" 2>&1 &
  echo $! >"$folder/run/anchor.pid"
  wait_for 10 test -e "$folder/run/ready" || die "machine $name did not start: $(cat "$folder/log/anchor")"
}

daemon() { # MACHINE NAME COMMAND...
  local machine=$1 name=$2 folder=$home/$1
  shift 2
  alive "$folder/run/$name.pid" && return
  setsid nsenter -t "$(cat "$folder/run/anchor.pid")" -n -m -u "$@" </dev/null >>"$folder/log/$name.log" 2>&1 &
  echo $! >"$folder/run/$name.pid"
}

kubeconfig() { # FILE USER
  local token
  token=$(awk -F, -v user="$2" '$2 == user {print $1}' "$home/cp/tokens.csv")
  (
    umask 077
    cat >"$1" <<CONF
apiVersion: v1
kind: Config
clusters: [{name: rig, cluster: {server: "https://$net.10:6443", certificate-authority: $home/cp/certs/apiserver.crt}}]
users: [{name: "$2", user: {token: $token}}]
contexts: [{name: rig, context: {cluster: rig, user: "$2"}}]
current-context: rig
CONF
  )
}

users=(admin:system:masters manager:system:masters scheduler:system:masters proxy:system:masters nobody:nobody)

control_plane() {
  local folder=$home/cp user i
  machine cp "$net.10"
  for i in $(seq 1 9); do ip -n "$short-cp" route replace "$pods.$i.0/24" via "$net.$((10 + i))"; done # the way back to pods
  mkdir -p "$folder"/{etcd,certs}
  [ -s "$folder/sa.key" ] || openssl genrsa -out "$folder/sa.key" 2048 2>/dev/null
  [ -s "$folder/tokens.csv" ] || (
    umask 077
    for user in "${users[@]}"; do echo "$(openssl rand -hex 16),${user%%:*},${user%%:*},${user#*:}"; done
    for i in $(seq 1 9); do echo "$(openssl rand -hex 16),system:node:k$i,k$i,system:nodes"; done
  ) >"$folder/tokens.csv"
  for user in manager scheduler proxy nobody; do kubeconfig "$folder/$user.kubeconfig" "$user"; done
  kubeconfig "$admin" admin
  daemon cp etcd etcd --name cp --data-dir "$folder/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster cp=http://127.0.0.1:2380
  server
  daemon cp manager kube-controller-manager --kubeconfig="$folder/manager.kubeconfig" --bind-address=127.0.0.1 \
    --leader-elect=false --service-account-private-key-file="$folder/sa.key" --root-ca-file="$folder/certs/apiserver.crt" \
    --use-service-account-credentials --node-monitor-grace-period=10s --node-monitor-period=2s \
    --kube-api-qps=500 --kube-api-burst=1000
  daemon cp scheduler kube-scheduler --kubeconfig="$folder/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false
}

server() {
  local folder=$home/cp
  daemon cp apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address="$net.10" --cert-dir="$folder/certs" --service-cluster-ip-range=$services.0/24 \
    --token-auth-file="$folder/tokens.csv" --authorization-mode=Node,RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$folder/sa.key" \
    --service-account-signing-key-file="$folder/sa.key" --allow-privileged=true \
    --enable-admission-plugins=NodeRestriction --kubelet-preferred-address-types=InternalIP \
    --endpoint-reconciler-type=lease --default-not-ready-toleration-seconds=5 --default-unreachable-toleration-seconds=5
  wait_for 90 curl -sfk --max-time 2 "https://$net.10:6443/readyz" || die "the API server does not answer; log: $folder/log/apiserver.log"
}

containers() { # NODE ARGUMENTS... : containerd's own client
  local node=$1
  shift
  inside "$node" ctr -n k8s.io "$@"
}

control_groups() { # NODE
  local each
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then return; fi # one hierarchy: the kubelet makes what it needs
  for each in cpu cpuacct cpuset memory pids devices freezer blkio systemd; do
    [ ! -d "/sys/fs/cgroup/$each" ] || mkdir -p "/sys/fs/cgroup/$each/$short-$1"
  done
  if [ -d "/sys/fs/cgroup/cpuset/$short-$1" ]; then
    for each in cpus mems; do
      cat "/sys/fs/cgroup/cpuset/cpuset.$each" >"/sys/fs/cgroup/cpuset/$short-$1/cpuset.$each"
    done
  fi
}

node() { # kI
  local name=$1 number=${1#k} folder=$home/$1 other image
  machine "$name" "$net.$((10 + number))"
  mkdir -p "$folder/containerd"
  for other in $(seq 1 9); do
    [ "$other" = "$number" ] || ip -n "$short-$name" route replace "$pods.$other.0/24" via "$net.$((10 + other))"
  done
  # This host knows no way to pods: what they send it comes from their node, as in most clusters.
  inside "$name" nft -f - <<CONF
table ip rig
delete table ip rig
table ip rig { chain out { type nat hook postrouting priority srcnat; ip saddr $pods.0.0/16 ip daddr $net.1 masquerade; }; }
CONF
  cat >"$folder/root/etc/cni/net.d/10-rig.conflist" <<CONF
{"cniVersion": "0.4.0", "name": "rig", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$folder/ipam", "ranges": [[{"subnet": "$pods.$number.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CONF
  cat >"$folder/containerd.toml" <<CONF
version = 2
root = "$folder/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/twister2/pause:1"
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
CONF
  daemon "$name" containerd containerd -c "$folder/containerd.toml"
  wait_for 30 containers "$name" version || die "containerd of $name does not answer; log: $folder/log/containerd.log"
  for image in "$home"/images/*.tar; do import "$name" "$image"; done
  control_groups "$name"
  kubeconfig "$folder/kubelet.kubeconfig" "system:node:$name"
  : >"$folder/resolv.conf"
  cat >"$folder/kubelet.yaml" <<CONF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$short-$name
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$services.10]
clusterDomain: cluster.local
resolvConf: $folder/resolv.conf
evictionHard: {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "50Mi"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
maxPods: 110
kubeReserved: {}
CONF
  [ -d "/sys/fs/cgroup/pids/$short-$name" ] || [ ! -e /sys/fs/cgroup/cgroup.controllers ] || mkdir -p "/sys/fs/cgroup/$short-$name"
  daemon "$name" kubelet kubelet --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubelet.kubeconfig" \
    --hostname-override="$name" --node-ip="$net.$((10 + number))" --root-dir=/var/lib/kubelet --cert-dir="$folder/pki"
  daemon "$name" proxy kube-proxy --kubeconfig="$home/cp/proxy.kubeconfig" --hostname-override="$name" \
    --proxy-mode=nftables --cluster-cidr=$pods.0.0/16 --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

import() { # NODE IMAGE.tar
  local done=$home/$1/containerd/.${2##*/}
  [ ! "$done" -ot "$2" ] || { containers "$1" images import "$2" >/dev/null && touch "$done"; }
}

images() {
  mkdir -p "$home/images"
  local folder
  if [ ! -e "$home/images/pause.tar" ]; then
    folder=$(mktemp -d "$home/pause.XXXXXX")
    cp "$cache/pause" "$folder/pause"
    "$python" "$here/k8s/image.py" --folder "$folder" --entrypoint /pause docker.io/twister2/pause:1 "$home/images/pause.tar"
    rm -rf -- "$folder"
  fi
  "$python" "$here/k8s/image.py" --if-changed docker.io/twister2/worker:1 "$home/images/worker.tar"
}

ready() { k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }

start() { # NODES
  local nodes=$1 i
  [ "$(id -u)" = 0 ] || die "only root may make namespaces"
  [ -x "$cache/kube" ] && [ -x "$cache/pause" ] || die "Kubernetes is not built; run: $0 build"
  command -v containerd >/dev/null || die "containerd is not installed; run: $0 install"
  [ "$nodes" -ge 1 ] && [ "$nodes" -le 9 ] || die "NODES must be 1 to 9, not $nodes"
  mkdir -p "$home"
  images
  ip link show "$bridge" >/dev/null 2>&1 || {
    ip link add name "$bridge" type bridge
    ip addr add "$net.1/24" dev "$bridge"
    ip link set "$bridge" up
  }
  control_plane
  for i in $(seq 1 "$nodes"); do node "k$i"; done
  for i in $(seq 1 "$nodes"); do
    wait_for 90 ready "k$i" || die "node k$i is not ready after 90 s; logs: $home/k$i/log"
  done
  wait_for 30 k -n default get serviceaccount default || die "the controller manager does nothing; log: $home/cp/log/manager.log"
  say "$nodes nodes are up; to use them: eval \"\$($0 env)\""
}

members() { # MACHINE: its daemons, and its pods' processes
  ip netns pids "$short-$1" 2>/dev/null || true
  find /sys/fs/cgroup -path "*/$short-$1/*" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

kill_machine() { # MACHINE
  local pid round
  for round in 1 2 3; do
    for pid in $(members "$1" | sort -u); do kill -9 "$pid" 2>/dev/null || true; done
    sleep 0.2
  done
  rm -f "$home/$1"/run/*
  ip link del "$short-$1" 2>/dev/null || true
  ip netns del "$short-$1" 2>/dev/null || true
}

stop() {
  [ -d "$home" ] || return 0
  local folder
  for folder in "$home"/k[1-9]; do [ ! -d "$folder" ] || kill_machine "${folder##*/}"; done
  [ ! -d "$home/cp" ] || kill_machine cp
  ip link del "$bridge" 2>/dev/null || true
  find /sys/fs/cgroup -depth -type d -path "*/$short-k[1-9]*" -exec rmdir {} \; 2>/dev/null || true
  # the cluster's memory and the nodes go; images that were made stay
  rm -rf -- "$home"/cp/etcd "$home"/k[1-9]
}

case ${1:-} in
  install) install_packages && build ;;
  build) build ;;
  start) start "${2:-2}" ;;
  env) printf 'export KUBECONFIG=%q TWISTER2_K8S_HOME=%q\n' "$admin" "$home" ;;
  status) k get --raw /readyz >/dev/null && k get nodes ;;
  kubectl) shift; k "$@" ;;
  load)
    if [ -n "${2:-}" ]; then cp "$2" "$home/images/"; else set -- load worker.tar && images; fi
    for folder in "$home"/k[1-9]; do [ ! -s "$folder/run/anchor.pid" ] || import "${folder##*/}" "$home/images/${2##*/}"; done
    ;;
  kill-node) kill_machine "${2:?which node}" ;;
  start-node) node "${2:?which node}" ;;
  stop-server) kill -9 "$(cat "$home/cp/run/apiserver.pid")"; rm -f "$home/cp/run/apiserver.pid" ;;
  start-server) server ;;
  stop) stop ;;
  clean) stop; rm -rf -- "$home" ;;
  *) usage ;;
esac
