"""The wrapper of every copy: a shell script that Nomad puts beside it."""

from __future__ import annotations

SCRIPT = r"""#!/bin/sh
# Runs one copy of a command of Twister2, and sees to it that none of its processes is left when it ends.
# usage: copy.sh SLOT_BASE GRACE COMMAND...    slot = SLOT_BASE + index of the allocation; no slot for an empty base
# TERM: everything is told to end, and killed after GRACE seconds. USR2: told only. USR1: killed.
if [ "$1" != --marked ]; then
  # What carries the allocation's id in its environment belongs to the copy: not this script and its own children.
  exec env -u NOMAD_ALLOC_ID /bin/sh "$0" --marked "NOMAD_ALLOC_ID=$NOMAD_ALLOC_ID" "$@"
fi
mark=$2 base=$3 grace=$4
shift 4
marked() {
  for file in $(grep -lszxF "$mark" /proc/[0-9]*/environ); do
    file=${file#/proc/}
    echo "${file%/environ}"
  done
}
tell() { # SIGNAL
  pids=$(marked)
  [ -z "$pids" ] || kill -"$1" $pids 2>/dev/null
}
left=-1 code=127
trap 'tell TERM; [ $left -ge 0 ] || left=$((grace * 10))' TERM INT HUP
trap 'tell TERM' USR2
trap 'left=0; tell KILL' USR1
if [ -n "$base" ]; then
  export TWISTER2_SLOT=$((base + NOMAD_ALLOC_INDEX))
fi
env "$mark" "$@" </dev/null &
child=$!
while :; do
  if [ $left -lt 0 ]; then
    wait $child
    code=$?
  else
    if [ $left -gt 0 ]; then left=$((left - 1)); else tell KILL; fi
    sleep 0.1
  fi
  kill -0 $child 2>/dev/null || break
done
wait $child 2>/dev/null
last=$?
[ $last -eq 127 ] || code=$last
# Descendants that left the copy: sub-processes and daemons of the program.
tell TERM
for turn in 1 2 3 4 5 6 7 8 9 10; do
  [ -n "$(marked)" ] || break
  [ $left -ne 0 ] || break
  sleep 0.1
done
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  tell KILL
  [ -n "$(marked)" ] || break
  sleep 0.05
done
exit $code
"""
TELL, KILL = "SIGUSR2", "SIGUSR1"
"""Signals by which the script is asked to tell its processes to end, and to kill them."""
