#!/usr/bin/env bash
# isa_objects.sh NM OBJDUMP OBJECT...: a translation unit of an instruction set exports its table and
# nothing else, no weak symbol in particular: an inline function of the standard library compiled
# there may be the copy that the linker keeps for everybody, and then older machines die of SIGILL.
# The other objects contain no AVX instruction at all, and none of ARM's products of bytes.
set -euo pipefail
nm=$1 objdump=$2
shift 2
bad=0
tables=0
for object in "$@"; do
  case $object in
    */cpu/* | */models/vector/plain.cpp* | */models/vector/avx*)
      isa=$(basename "$object" | sed 's/\.cpp.*//')
      exported=$("$nm" -C --extern-only --defined-only "$object" | sed 's/^[0-9a-f]* *//')
      # One constant table (D: in .data.rel.ro, for it holds addresses).
      if ! [[ $exported =~ ^[RD]\ kvant::(detail|models)::[a-z_]*kernels_$isa$ ]]; then
        printf '%s exports\n%s\ninstead of its table alone\n' "$object" "$exported" >&2
        bad=1
      fi
      if "$nm" -C "$object" | grep -E ' [WwVvu] '; then
        echo "$object has the weak symbols above" >&2
        bad=1
      fi
      tables=$((tables + 1)) ;;
  esac
  case $object in
    */cpu/x86/* | */cpu/arm/* | */models/vector/avx*) ;;
    *)
      if "$objdump" -d --no-show-raw-insn "$object" | grep -m 3 -E '%[yz]mm|\sv[a-z0-9]+[ps][sd] |\s([su]|us)(dot|mmla)\s'; then
        echo "$object is for every processor and has the instructions above" >&2
        bad=1
      fi ;;
  esac
done
[ $tables -gt 0 ] || { echo "no object of an instruction set among $# objects" >&2; bad=1; }
[ $bad -eq 0 ] && echo "$tables kernel sets export one table each; $# objects looked at"
exit $bad
