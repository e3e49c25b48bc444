#!/bin/sh
# Print a Python of another version (3.x) than that of the interpreter $1: one that is on PATH or among pyenv's, and
# that tools/find_python.sh would take. Exit code 1 where there is none.
set -u

than=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1
versions=${PYENV_ROOT:-$(pyenv root 2>/dev/null || printf %s "${HOME:-}/.pyenv")}/versions
for version in 3.13 3.12 3.11; do
  [ "$version" != "$than" ] || continue
  for candidate in "python$version" "$versions/$version".*/bin/"python$version"; do
    PYTHON=$candidate "${0%/*}/find_python.sh" 2>/dev/null && exit 0
  done
done
exit 1
