#!/usr/bin/env bash
# sources.sh SOURCE_DIR: sources are ASCII, without tabs and trailing blanks, headers have #pragma
# once, nothing is left to do.
set -euo pipefail
cd "$1"
bad=0
complain() { echo "$1" >&2; bad=1; }
mapfile -t files < <(find include src tests examples benchmarks CMakeLists.txt CMakePresets.json \
  -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.inc' -o -name '*.in' -o -name '*.cmake' \
  -o -name 'CMakeLists.txt' -o -name '*.sh' -o -name 'CMakePresets.json' \) \
  -not -path '*/data/*' -not -path 'examples/models/*')
[ ${#files[@]} -gt 50 ] || complain "only ${#files[@]} sources found: wrong folder?"
if LC_ALL=C grep -nP '[^\x00-\x7F]' "${files[@]}"; then complain "not ASCII: the lines above"; fi
if grep -nP '\t' "${files[@]}"; then complain "tabs: the lines above"; fi
if grep -nP ' +$' "${files[@]}"; then complain "trailing blanks: the lines above"; fi
if grep -nwE 'TO''DO|FIX''ME|X''XX' "${files[@]}"; then complain "unfinished: the lines above"; fi
for file in "${files[@]}"; do
  case $file in
    *.hpp) grep -q '^#pragma once$' "$file" || complain "$file has no #pragma once" ;;
  esac
done
[ $bad -eq 0 ] && echo "${#files[@]} sources are clean"
exit $bad
