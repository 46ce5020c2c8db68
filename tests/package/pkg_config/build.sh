#!/usr/bin/env bash
# build.sh PREFIX LIBDIR OUTPUT_DIR CXX: compiles the consumer with what pkg-config says, and runs it.
set -euo pipefail
prefix=$1 libdir=$2 out=$3 cxx=$4
here=$(cd "$(dirname "$0")" && pwd)
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
export LD_LIBRARY_PATH=$prefix/$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$out"

# shellcheck disable=SC2046  # pkg-config's answer is several words
"$cxx" -std=c++20 "$here/../consumer/main.cpp" -o "$out/core" \
  $(pkg-config --cflags --libs kvant)
"$out/core"
"$cxx" -std=c++20 -DKVANT_CONSUMER_ALL -DKVANT_CONSUMER_MODELS "$here/../consumer/main.cpp" -o "$out/all" \
  $(pkg-config --cflags --libs kvant-eigen kvant-fmt kvant-look kvant-models)
"$out/all"
if pkg-config --exists kvant-mpi; then
  "$cxx" -std=c++20 -DKVANT_CONSUMER_MPI "$here/../consumer/main.cpp" -o "$out/mpi" \
    $(pkg-config --cflags --libs kvant-mpi)
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$out/mpi"
fi

version=$(pkg-config --modversion kvant)
if pkg-config --exists "kvant > $version"; then
  echo "pkg-config finds a kvant newer than $version" >&2
  exit 1
fi
