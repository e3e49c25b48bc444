#!/usr/bin/env bash
# Pretended nodes for the control plane of k8s.sh: KWOK says of their pods that they run, so that hundreds cost no memory.
# For benchmarks/launch_pods.py; no test needs it.
#
#   kwok.sh install             build KWOK from the Go module proxy (needs Go), unless it is cached
#   kwok.sh start [NODES]       for the cluster that k8s.sh has started: NODES pretended nodes (20), wait until all are ready
#   kwok.sh status              exit 0 when KWOK runs; how many of its nodes are ready
#   kwok.sh stop                end KWOK, remove its nodes
#
# They report every two seconds: the rig takes a node for lost after ten.
# The nodes have the label and the annotation kwok.x-k8s.io/node=fake. Environment: as for k8s.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=library.sh
. "$(dirname "$0")/library.sh"

home=${TWISTER2_K8S_HOME:-${TMPDIR:-/tmp}/twister2-k8s}
cache=${TWISTER2_KWOK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twister2-clusters}/kwok-0.8.0
kubernetes=${TWISTER2_K8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twister2-clusters/kubernetes}
version=${cache##*-}
mark=kwok.x-k8s.io/node
# What its nodes and pods do, and when: at once. Without pod-complete: pods of Jobs would have done their work.
stages=(pod/fast/pod-ready pod/fast/pod-delete node/fast/node-initialize)

k() { "$kubernetes/kubectl" --kubeconfig "$home/admin.kubeconfig" "$@"; }

built() { [ -x "$cache/kwok" ] && grep -qsxF "# ${stages[*]}" "$cache/stages.yaml"; }

build() {
  ! built || { say "is built: $cache/kwok"; return; }
  command -v go >/dev/null || [ ! -x /usr/local/go/bin/go ] || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die "Go is not installed: see https://go.dev/doc/install"
  mkdir -p "$cache/mod"
  (
    cd "$cache/mod"
    printf 'module twister2/kwok\n\ngo 1.26.0\n\nrequire sigs.k8s.io/kwok v%s\n' "$version" >go.mod
    printf '//go:build tools\n\npackage tools\n\nimport _ "sigs.k8s.io/kwok/cmd/kwok"\n' >tools.go
    go mod tidy -e >tidy.log 2>&1
    if [ ! -x "$cache/kwok" ]; then
      CGO_ENABLED=0 go build -trimpath -p "${TWISTER2_BUILD_JOBS:-$(nproc)}" -ldflags '-s -w' -o "$cache/kwok.new" \
        sigs.k8s.io/kwok/cmd/kwok
      mv "$cache/kwok.new" "$cache/kwok"
    fi
    folder=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
    {
      printf '# %s\n' "${stages[*]}"
      for file in "${stages[@]}"; do
        cat "$folder/kustomize/stage/$file.yaml"
        printf '\n---\n'
      done
    } >"$cache/stages.yaml"
  ) >&2
}

nodes() { # N
  local i
  for i in $(seq 1 "$1"); do
    cat <<CONF
apiVersion: v1
kind: Node
metadata:
  name: fake-$i
  labels: {$mark: fake, kubernetes.io/hostname: fake-$i}
  annotations: {$mark: fake, node.alpha.kubernetes.io/ttl: "0"}
status:
  allocatable: {cpu: "32", memory: 64Gi, pods: "110"}
  capacity: {cpu: "32", memory: 64Gi, pods: "110"}
---
CONF
  done
}

ready() { k get nodes -l "$mark=fake" --no-headers 2>/dev/null | grep -cw Ready || true; }

start() { # NODES
  built || die "KWOK is not built, or was for other stages; run: $0 install"
  [ -s "$home/cp/run/anchor.pid" ] || die "no control plane in $home; run k8s.sh start first"
  if ! alive "$home/kwok.pid"; then
    setsid nsenter -t "$(cat "$home/cp/run/anchor.pid")" -n -m -u "$cache/kwok" --kubeconfig="$home/admin.kubeconfig" \
      --config="$cache/stages.yaml" --manage-all-nodes=false --manage-nodes-with-annotation-selector="$mark=fake" \
      --node-lease-duration-seconds=8 \
      </dev/null >"$home/kwok.log" 2>&1 &
    echo $! >"$home/kwok.pid"
  fi
  nodes "$1" | k apply -f - >/dev/null
  local end=$((SECONDS + 180))
  until [ "$(ready)" -ge "$1" ]; do
    [ "$SECONDS" -lt "$end" ] || die "only $(ready) of $1 nodes are ready; log: $home/kwok.log"
    sleep 1
  done
  say "$1 pretended nodes are ready"
}

status() {
  alive "$home/kwok.pid" || die "KWOK does not run"
  say "$(ready) pretended nodes are ready"
}

stop() {
  k delete nodes -l "$mark=fake" --wait=false >/dev/null 2>&1 || true
  ! alive "$home/kwok.pid" || kill "$(cat "$home/kwok.pid")"
  rm -f "$home/kwok.pid"
}

case ${1:-} in
  install) build ;;
  start) start "${2:-20}" ;;
  status) status ;;
  stop) stop ;;
  *) usage ;;
esac
