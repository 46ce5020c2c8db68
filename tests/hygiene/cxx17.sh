#!/usr/bin/env bash
# cxx17.sh SOURCE_DIR COMPILER: every public header says in one clear sentence that it needs C++20, and
# nothing after it, where the compiler is set to C++17.
set -euo pipefail
cd "$1/include"
bad=0
for header in $(find kvant -name '*.hpp' ! -name version.hpp ! -name eigen.hpp ! -name fmt.hpp ! -name mpi.hpp); do
  said=$(printf '#include <%s>\n' "$header" | "$2" -std=c++17 -I. -fsyntax-only -x c++ - 2>&1 || true)
  errors=$(grep -c ' error: ' <<<"$said" || true)
  if ! grep -q 'kvant needs C++20' <<<"$said" || [ "$errors" -gt 2 ]; then
    echo "$header, as C++17:" >&2
    grep -m3 ' error: ' <<<"$said" >&2 || true
    bad=1
  fi
done
[ $bad -eq 0 ] && echo "all headers ask for C++20"
exit $bad
