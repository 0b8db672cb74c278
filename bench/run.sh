#!/usr/bin/env bash
# How fast cotun-trio is, beside a direct connection, ssh -L and, when it is on PATH (or $CHISEL names
# it), chisel: all interleaved in one run.  With --floods: what others notice of a flood.  See
# `bench/run.sh --help` and `bench/run.sh --floods --help`.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
make --silent -C "$here" .venv/installed-test
module=bench.measure
if [[ ${1-} == --floods ]]; then
    module=bench.floods
    shift
fi
PYTHONPATH="$here" exec "$here/.venv/bin/python" -m "$module" "$@"
