#!/usr/bin/env bash
# Builds a real Kubernetes (apiserver, controller-manager, scheduler, proxy, kubelet, kubectl and etcd) as one binary from
# the Go module proxy alone: needs Go, nothing else. Idempotent; killed half-way, the next call resumes from Go's own cache.
#
#   build.sh OUTDIR VERSION       build.sh ~/.cache/twister2-clusters/kubernetes 1.34.4
#
# Environment: TWISTER2_BUILD_JOBS  compilers at once (default: one per core; each takes up to 1 GB)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
version=$2
[ -x "$out/pause" ] || CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out/pause" "$here/pause/main.go"
if [ -x "$out/kube" ] && [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then exit 0; fi

mod=$out/mod
mkdir -p "$mod"
cp "$here/kube/main.go" "$mod/"
cd "$mod"
export GOFLAGS=-mod=mod GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
source=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
[ -d "$source" ] || { echo "build.sh: the module proxy has no k8s.io/kubernetes v$version" >&2; exit 1; }
# Upstream replaces its staging modules by folders of its own checkout; here each is the published module of the same release.
{
  printf 'module twister2/kube\n\ngo %s\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$(awk '/^go /{print $2}' "$source/go.mod")" "$version"
  awk '/=> \.\/staging\/src\//{print $1}' "$source/go.mod" | sort -u | sed "s#.*#\t& => & v0.${version#1.}#"
  echo ')'
} >go.mod
go mod tidy -e >tidy.log 2>&1
package=k8s.io/component-base/version
minor=${version#1.}
minor=${minor%%.*}
CGO_ENABLED=0 go build -trimpath -p "${TWISTER2_BUILD_JOBS:-$(nproc)}" -o "$out/kube.new" -ldflags "-s -w -X $package.gitVersion=v$version \
  -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean -X $package.gitCommit=none -X $package.buildDate=1970-01-01T00:00:00Z" .
mv "$out/kube.new" "$out/kube"
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl etcd; do ln -sf kube "$out/$name"; done
echo "$version" >"$out/version"
