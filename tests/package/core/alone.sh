#!/usr/bin/env bash
# alone.sh SOURCE_DIR BUILD_DIR CXX: kvant/core.hpp needs a compiler and its include path, nothing else:
# no library, no definition. Built by CXX and by every other compiler that is here; installed without
# the library and found by CMake and pkg-config.
set -euo pipefail
source=$1
build=$2
rm -rf "$build"
mkdir -p "$build"
main=$source/tests/package/core/main.cpp

for cxx in "$3" g++ clang++-14 clang++; do
  command -v "$cxx" >/dev/null || continue
  name=$(basename "$cxx")
  [ -e "$build/$name" ] && continue
  "$cxx" -std=c++20 -O1 -I"$source/include" -Wall -Wextra -Wpedantic -Wconversion -Werror "$main" -o "$build/$name"
  echo "$cxx: $("$build/$name")"
done

cmake -S "$source" -B "$build/headers" -DKVANT_LIBRARY=OFF -DCMAKE_CXX_COMPILER="$3" \
  -DCMAKE_INSTALL_PREFIX="$build/prefix" -DCMAKE_INSTALL_LIBDIR=lib >"$build/log"
cmake --install "$build/headers" >>"$build/log"
cmake -S "$source/tests/package/core" -B "$build/found" -DCMAKE_PREFIX_PATH="$build/prefix" \
  -DCMAKE_CXX_COMPILER="$3" >>"$build/log"
cmake --build "$build/found" >>"$build/log"
"$build/found/consumer"
if command -v pkg-config >/dev/null; then
  flags=$(PKG_CONFIG_PATH="$build/prefix/lib/pkgconfig" pkg-config --cflags --libs kvant-core)
  # shellcheck disable=SC2086
  "$3" -std=c++20 -O0 "$main" $flags -o "$build/by_pkg_config"
  "$build/by_pkg_config"
fi
