#!/usr/bin/env bash
# Runs one fuzz target: the folder of the binaries, its name, and for how many seconds.
set -euo pipefail
cd "$(dirname "$0")/../.."
binaries=$1 target=$2 seconds=$3
corpus=target/fuzz/corpus/$target log=target/fuzz/$target.log
mkdir -p "$corpus" tests/fuzz/artifacts
if ! "$binaries/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
  -print_final_stats=1 -artifact_prefix="tests/fuzz/artifacts/$target-" \
  "$corpus" "tests/fuzz/seeds/$target" >"$log" 2>&1; then
  tail -n 60 "$log"
  echo "$target: FAILED; again: $binaries/$target tests/fuzz/artifacts/$target-…" >&2
  exit 1
fi
printf '%-16s %s\n' "$target" "$(sed -n 's/^#\([0-9]*\)\tDONE *\(cov: [0-9]*\).*/\1 inputs, \2/p' "$log")"
