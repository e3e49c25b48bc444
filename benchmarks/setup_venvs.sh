#!/bin/sh
# Make the virtual environments of the contestants under $BENCH_VENVS (default: bench-venvs in the temporary folder).
#
#     sh setup_venvs.sh [NAME...]      names: those of requirements/*.txt; without any, all of them
#
# "twister2" gets the distributions of this checkout as a user would install them (no editable installs, which would
# lengthen sys.path and so the start of every process): run it again after the sources have changed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venvs=${BENCH_VENVS:-${TMPDIR:-/tmp}/bench-venvs}
mkdir -p "$venvs"
if [ $# -eq 0 ]; then
    for file in "$here"/requirements/*.txt; do
        set -- "$@" "$(basename "$file" .txt)"
    done
fi
for name in "$@"; do
    python="$venvs/$name/bin/python"
    [ -x "$python" ] || python3 -m venv "$venvs/$name"
    if [ "$name" = twister2 ]; then
        "$python" -m pip install -q -r "$here/requirements/$name.txt" "$here"/../core "$here"/../plugins/*/
        "$python" -m pip install -q --no-deps --force-reinstall "$here"/../core "$here"/../plugins/*/
    else
        "$python" -m pip install -q -r "$here/requirements/$name.txt"
    fi
    echo "$name: ready in $venvs/$name"
done
