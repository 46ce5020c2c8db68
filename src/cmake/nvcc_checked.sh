#!/usr/bin/env bash
# nvcc_checked.sh NVCC ARGUMENTS...: compiles, and fails where ptxas tells of registers that went to
# memory or of products that wait for each other: a kernel like that is slow, and looks right.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1
status=$?
quiet() { grep -vE '^ptxas info|^$| 0 bytes spill loads' "$log" >&2; }
if [ $status -ne 0 ]; then
  quiet
  exit $status
fi
bad=$(grep -nE '[1-9][0-9]* bytes (stack frame|spill stores|spill loads)|C75[0-9][0-9]|local memory|[Ss]pill.*warning|warning.*[Ss]pill' "$log" || true)
if [ -n "$bad" ]; then
  cat "$log" >&2
  printf 'nvcc: spills, local memory or serialized products:\n%s\n' "$bad" >&2
  exit 1
fi
quiet
exit 0
