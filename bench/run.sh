#!/usr/bin/env bash
# How fast cotun-trio is, beside a direct connection, ssh -L and, when it is on PATH (or $CHISEL names
# it), chisel: all interleaved in one run.  See `bench/run.sh --help`.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
make --silent -C "$here" .venv/installed-test
PYTHONPATH="$here" exec "$here/.venv/bin/python" -m bench.measure "$@"
