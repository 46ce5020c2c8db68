#!/usr/bin/env bash
# umbrella_budget.sh SOURCE_DIR CXX: kvant/kvant.hpp stays cheap to include, and pulls in no Eigen,
# no fmt, no JSON library and no intrinsics.
set -euo pipefail
limit=90000
text=$(mktemp)
trap 'rm -f "$text"' EXIT
echo '#include <kvant/kvant.hpp>' | "$2" -std=c++20 -I"$1/include" -E -x c++ - >"$text"
lines=$(wc -l <"$text")
echo "kvant/kvant.hpp: $lines preprocessed lines, $limit allowed"
if [ "$lines" -ge $limit ]; then
  echo "the umbrella header has become too heavy" >&2
  exit 1
fi
if grep -E '^# [0-9]+ "[^"]*/(Eigen|fmt|nlohmann|[a-z0-9]*intrin\.h|arm_neon\.h)' "$text" | sort -u | head -5 | grep .; then
  echo "the umbrella header pulls in the files above" >&2
  exit 1
fi
