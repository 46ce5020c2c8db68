#!/usr/bin/env bash
# Builds and runs all tests, dependencies included.
#
#   bash tests/run.sh          g++ Release, then the tests of what computes and what reads files by g++
#                              with AddressSanitizer and UBSan
#   bash tests/run.sh --cuda   only CUDA: kernels on a GPU, then under compute-sanitizer (where there
#                              is no GPU: on the emulated device alone)
#   bash tests/run.sh --all    also what is slow (label slow), the rest under the sanitizers, clang, Debug, ThreadSanitizer, a
#                              plain x86-64, ARM and s390x (tests/cross.sh) under qemu, the reference
#                              pages, and a minute of libFuzzer for each target of tests/fuzz
#
# The last lines are CTest's own summary. KVANT_JOBS sets the parallelism (default: all cores).
set -euo pipefail
cd "$(dirname "$0")/.."

all=0
cuda_only=0
for argument in "$@"; do
  case "$argument" in
    --all) all=1 ;;
    --cuda) cuda_only=1 ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown argument $argument (try --help)" >&2; exit 2 ;;
  esac
done

. src/cmake/packages.sh
require_packages "${kvant_build_packages[@]}" catch2 libopenmpi-dev openmpi-bin chromium
[ $all -eq 0 ] || require_packages clang-14 libomp-14-dev qemu-user doxygen
jobs=${KVANT_JOBS:-$(nproc)}

# Build directories made with another generator or checkout are of no use.
configure() {  # preset directory
  grep -qs "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD\$" "$2/CMakeCache.txt" &&
    grep -qs 'CMAKE_GENERATOR:INTERNAL=Ninja' "$2/CMakeCache.txt" || rm -rf "$2"
  local preset=$1 directory=$2
  shift 2
  cmake --preset "$preset" -DKVANT_TESTS=ON -DKVANT_WERROR=ON "$@" --log-level=WARNING >/dev/null
}

# The CUDA kernels are compiled wherever nvcc is; where it is not, only on request (270 MB of wheels).
with_cuda=(-DKVANT_CUDA=OFF)
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
  with_cuda=(-DKVANT_CUDA=ON)
elif [ $((all + cuda_only)) -gt 0 ]; then
  with_cuda=(-DKVANT_CUDA=ON)
  require_packages python3-pip
else
  echo "No nvcc: the CUDA kernels are tested on the emulated device only (--cuda fetches nvcc)"
fi

# For every kind of device in --all, so that none spills; else for those of src/cmake/cuda.cmake,
# whatever an --all before has left in the build directory.
if [ $all -eq 1 ]; then
  with_cuda+=("-DCMAKE_CUDA_ARCHITECTURES=80-real;86-real;89-real;90a-real;100-real;120-real;80-virtual")
else
  with_cuda+=(-UCMAKE_CUDA_ARCHITECTURES)
fi

# (CMakePresets.json compiles folders as one where that costs no check: each source is by itself in
# release or asan, so that what it lacks among its includes shows, and all of them are with clang.)
suite() {  # preset directory [ctest arguments]
  local preset=$1 directory=$2
  shift 2
  echo "== $preset: build"
  local parts=() targets=() labels=()
  if [ "$preset" = release ]; then
    parts=("${with_cuda[@]}" -DKVANT_MPI=ON)
    [ $all -eq 1 ] || labels=(-LE '^slow$')
  elif [ "$preset" = asan ] && [ $all -eq 0 ]; then
    # What computes and what reads files under the sanitizers; models, what people look at, the programs
    # and the headers alone (core), which take as long to compile again, in --all.
    parts=(-DKVANT_PROGRAM=OFF -DKVANT_EXAMPLES=OFF)
    targets=(--target kvant_{unit,io,kernels,linear,methods}_tests
             {safetensors,gguf,index,quantization}_replay)
    labels=(-L '^(unit|io|kernels|linear|methods|fuzz)$' -E '^fuzz replay: (config|tokenizer)$')
  elif [ "$preset" = asan ]; then
    parts=(-DKVANT_PROGRAM=ON -DKVANT_EXAMPLES=ON)
    labels=(-LE '^package$')  # consumers are built as releases by the one compiler
  elif [ "$preset" = clang ]; then
    labels=(-LE '^package$')
  elif [ "$preset" = debug ]; then  # its assertions hold under the sanitizers too, where all runs
    targets=(--target kvant_models kvant_look kvant_{unit,core,core_fused,linear,io}_tests)
    labels=(-L '^(unit|core|linear|io)$')
  elif [ "$preset" = tsan ]; then  # what shares work out over threads
    targets=(--target kvant_{unit,kernels,linear}_tests)
    labels=(-L '^(unit|kernels|linear)$')
  fi
  configure "$preset" "$directory" "${parts[@]}"
  cmake --build "$directory" -j "$jobs" ${targets[@]+"${targets[@]}"} -- --quiet
  echo "== $preset: test"
  ctest --test-dir "$directory" --output-on-failure -j "$jobs" --timeout 1200 \
    ${labels[@]+"${labels[@]}"} "$@"
}

# Runs one command quietly; its output is shown when it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log"
    echo "failed: $*" >&2
    exit 1
  fi
  rm -f "$log"
}

if [ $cuda_only -eq 1 ]; then
  configure release build "${with_cuda[@]}"
  cmake --build build -j "$jobs" --target kvant_cuda_tests kvant_cuda_device_tests -- --quiet
  ctest --test-dir build --output-on-failure -L cuda --timeout 600
  status=0
  build/bin/kvant_cuda_device_tests >/dev/null || status=$?
  if [ $status -ne 77 ] && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
      echo "== compute-sanitizer: $tool"
      quietly compute-sanitizer --error-exitcode 1 --tool $tool \
        build/bin/kvant_cuda_device_tests 'layers*,a forward*,instructions*,epilogue*'
    done
  fi
  exit $((status == 77 ? 0 : status))
fi
if [ $all -eq 1 ]; then
  suite clang build-clang
  suite debug build-debug
  # Over std::thread: Debian's OpenMP runtime is not instrumented.
  suite tsan build-tsan
fi
suite release build

if [ $all -eq 1 ]; then
  echo "== reference pages"
  quietly cmake --build build --target docs
fi

# One run per kernel set that this machine has, chosen by the environment as a user would.
for isa in $(build/bin/list_isa --available); do
  echo "== KVANT_ISA=$isa: $(KVANT_ISA=$isa build/bin/list_isa --chosen) runs"
  [ "$(KVANT_ISA=$isa build/bin/list_isa --chosen)" = "$isa" ]
  quietly env KVANT_ISA="$isa" build/bin/kvant_linear_tests
  quietly env KVANT_ISA="$isa" build/bin/kvant_unit_tests
done
if [ $all -eq 1 ]; then
  echo "== a plain x86-64 (Nehalem under qemu): scalar kernels"
  [ "$(qemu-x86_64 -cpu Nehalem build/bin/list_isa --chosen 2>/dev/null)" = scalar ]
  quietly qemu-x86_64 -cpu Nehalem build/bin/kvant_linear_tests
  quietly qemu-x86_64 -cpu Nehalem build/bin/kvant_kernels_tests '~*threads*'
  quietly qemu-x86_64 -cpu Nehalem build/bin/quickstart
fi
if [ $all -eq 1 ]; then
  bash tests/cross.sh aarch64 cortex-a53=neon cortex-a76=neon_dotprod max=neon_i8mm
  bash tests/cross.sh s390x max=scalar
fi
# Fuzzing: new inputs are kept in build-fuzz/fuzz between runs, what crashes is left there too.
if [ $all -eq 1 ]; then
  echo "== fuzz: build"
  configure fuzz build-fuzz
  cmake --build build-fuzz -j "$jobs" --target safetensors_fuzz gguf_fuzz index_fuzz quantization_fuzz config_fuzz tokenizer_fuzz -- --quiet
  for seeds in build-fuzz/fuzz/*.seeds; do
    name=$(basename "$seeds" .seeds)
    echo "== fuzz: $name, 60 seconds"
    mkdir -p "build-fuzz/fuzz/$name/seeds" "build-fuzz/fuzz/$name/found"
    # One folder of seeds: some are files of their own, with names that repeat.
    number=0
    tr ';' '\n' <"$seeds" | while read -r seed; do
      [ -n "$seed" ] || continue
      number=$((number + 1))
      cp -rT "$seed" "build-fuzz/fuzz/$name/seeds/$number"
    done
    quietly "build-fuzz/bin/${name}_fuzz" -max_total_time=60 -timeout=10 -rss_limit_mb=2048 \
      -max_len=65536 -artifact_prefix="build-fuzz/fuzz/$name/" \
      "build-fuzz/fuzz/$name/found" "build-fuzz/fuzz/$name/seeds"
  done
fi
suite asan build-asan
