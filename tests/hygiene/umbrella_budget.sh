#!/usr/bin/env bash
# umbrella_budget.sh SOURCE_DIR CXX: the umbrella headers stay cheap to include, and pull in no Eigen,
# no fmt, no JSON library and no intrinsics.
set -euo pipefail
text=$(mktemp)
trap 'rm -f "$text"' EXIT

# check HEADER LIMIT: preprocessed lines.
check() {
  echo "#include <$1>" | "$cxx" -std=c++20 -I"$source/include" -E -x c++ - >"$text"
  local lines
  lines=$(wc -l <"$text")
  echo "$1: $lines preprocessed lines, $2 allowed"
  if [ "$lines" -ge "$2" ]; then
    echo "$1 has become too heavy" >&2
    exit 1
  fi
  if grep -E '^# [0-9]+ "[^"]*/(Eigen|fmt|nlohmann|[a-z0-9]*intrin\.h|arm_neon\.h)' "$text" | sort -u | head -5 | grep .; then
    echo "$1 pulls in the files above" >&2
    exit 1
  fi
}
source=$1
cxx=$2
check kvant/kvant.hpp 90000
check kvant/core.hpp 75000
