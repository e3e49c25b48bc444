# shellcheck shell=bash
# What the scripts beside this one have in common; each sources it. `packages`, where a script has it, is an array of the
# Debian packages that it needs.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; } # FILE with a process id

# wait_for SECONDS COMMAND...: 0 as soon as the command succeeds, 1 when the time is over
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

# Install the packages that are missing (apt; needs root).
install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || { say "all packages are installed"; return 0; }
  [ "$(id -u)" = 0 ] || die "not installed: ${missing[*]}; run as root: apt-get install --no-install-recommends ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The packages would start daemons of their own where an init system runs; ours are the only ones wanted.
  local policy=/usr/sbin/policy-rc.d made= rc=0
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=1; fi
  { apt-get -o DPkg::Lock::Timeout=300 update -q && apt-get -o DPkg::Lock::Timeout=300 install -y -q \
    --no-install-recommends "${missing[@]}"; } >&2 </dev/null || rc=$?
  [ -z "$made" ] || rm -f "$policy"
  return "$rc"
}

usage() { sed -n '2,/^set -/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2; exit 2; }
