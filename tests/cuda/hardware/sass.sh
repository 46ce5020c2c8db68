#!/usr/bin/env bash
# sass.sh OBJECT TOOLS: the machine code has the instructions that the kernels were written for, and
# no register went to memory. Exit code 77: no cuobjdump here.
#   TOOLS  a folder to look for cuobjdump and nvdisasm in, beside PATH
set -euo pipefail
PATH=$PATH:$2:/usr/local/cuda/bin
if ! command -v cuobjdump >/dev/null || ! command -v nvdisasm >/dev/null; then
  echo "skipped: no cuobjdump and nvdisasm on PATH"
  exit 77
fi
bad=0
check() {  # architecture instructions...
  local architecture=$1 code instruction
  shift
  code=$(cuobjdump -sass -arch "$architecture" "$1")
  shift
  for instruction in "$@"; do
    if ! grep -qF "$instruction" <<<"$code"; then
      echo "$architecture has no $instruction" >&2
      bad=1
    fi
  done
  if grep -nE '\b(LDL|STL)\b' <<<"$code"; then
    echo "$architecture: local memory: the lines above" >&2
    bad=1
  fi
}
check sm_80 "$1" IMMA.16832.S8.S8 HMMA.16816.F32.BF16 LDSM.16.M88.4 LDGSTS.E.BYPASS.128 \
  IDP.4A.S8.S8
check sm_90a "$1" IGMMA.64x256x32 IGMMA.64x128x32 IGMMA.64x8x32 UTMALDG.2D UTMALDG.2D.MULTICAST \
  USETMAXREG SYNCS.PHASECHK IMMA.16832.S8.S8 LDSM.16.M88.4
exit $bad
