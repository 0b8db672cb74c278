#!/usr/bin/env bash
# Throughput and round trips of cotun-trio, beside a direct connection and, when it is on PATH (or
# $CHISEL names it), chisel: all interleaved in one run.  See `bench/run.sh --help`.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
make --silent -C "$here" .venv/installed
exec "$here/.venv/bin/python" "$here/bench/measure.py" "$@"
