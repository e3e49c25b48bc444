#!/bin/sh
# Print the Python to make .venv with: the first of $PYTHON, python3, python3.13, ... that is new enough and
# can make virtual environments. Otherwise say what was found and what to do, and exit 1.
set -u

probe='import sys
if sys.version_info < (3, 11): print("is Python %d.%d, and 3.11 or newer is needed" % sys.version_info[:2]); sys.exit(1)
try: import venv, ensurepip
except ImportError: print("has no venv module (Debian, Ubuntu: apt install python3-venv)"); sys.exit(1)
print(sys.executable)'

report=
if [ -n "${PYTHON:-}" ]; then candidates=$PYTHON; else candidates="python3 python3.13 python3.12 python3.11 python3.14"; fi
for candidate in $candidates; do
  found=$(command -v "$candidate" 2>/dev/null) || { [ -z "${PYTHON:-}" ] || report="  $candidate: not found"; continue; }
  if answer=$("$found" -c "$probe" 2>/dev/null </dev/null); then
    printf '%s\n' "$answer"
    exit 0
  fi
  report="$report
  $found: ${answer:-does not run}"
done
{
  echo "No usable Python:${report:-
  neither python3 nor python3.11 ... python3.14 is on PATH}"
  echo "Install Python 3.11 or newer with its venv module, or name one: make PYTHON=/path/to/python3.12 ..."
} >&2
exit 1
