#!/usr/bin/env bash
# headers_alone.sh SOURCE_DIR CXX: every public header compiles on its own, twice in one file,
# without a warning. (That of kvant::mpi needs MPI's own header, which a compiler does not find by itself.)
set -euo pipefail
cd "$1/include"
export CXX=$2
check() {
  printf '#include <%s>\n#include <%s>\n' "$1" "$1" |
    "$CXX" -std=c++20 -I. -isystem /usr/include/eigen3 -Wall -Wextra -Wpedantic -Wconversion \
      -Wshadow -Werror -fsyntax-only -x c++ - || { echo "not on its own: $1" >&2; return 1; }
}
export -f check
find kvant -name '*.hpp' ! -name mpi.hpp | sort | xargs -P 2 -I{} bash -c 'check {}'
echo "$(find kvant -name '*.hpp' | wc -l) headers compile on their own"
