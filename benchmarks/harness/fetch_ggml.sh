#!/usr/bin/env bash
# fetch_ggml.sh DIR: ggml as a peer of the questions about 4 bits: its sources out of the source package
# of llama-cpp-python, built for this machine (-march=native: a peer at its best) into DIR/build. Does
# nothing where that is there already. Exit status 1 where it cannot be had; the questions run without.
set -euo pipefail
mkdir -p "$1"
dir=$(cd "$1" && pwd)
version=0.3.36
[ ! -e "$dir/build/src/libggml.a" ] || exit 0
cd "$dir"
if [ ! -e "llama_cpp_python-$version.tar.gz" ]; then
  python3 -m venv venv
  timeout 600 venv/bin/pip download -q --no-deps --no-binary llama-cpp-python \
    "llama-cpp-python==$version"
fi
tar xzf "llama_cpp_python-$version.tar.gz" --wildcards '*/vendor/llama.cpp/ggml/*'
ggml=llama_cpp_python-$version/vendor/llama.cpp/ggml
touch "$ggml/ggml.pc.in"  # the package lacks it
cmake -S "$ggml" -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
  -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF --log-level=ERROR >/dev/null
cmake --build build -j "$(nproc)" -- --quiet
ln -sfn "$ggml/include" include
