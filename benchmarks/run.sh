#!/usr/bin/env bash
# Measures kvant against its ceilings and its peers, in one process per question, interleaved.
#
#   bash benchmarks/run.sh --cuda [--question NAME]... [--json FILE]
#   bash benchmarks/run.sh [--quick] [--question NAME]... [--shape MxNxK]... [--threads 1,2]
#                          [--format int4,nf4] [--group 32,64,128] [--json FILE]
#
# Questions: int8_gemm llm_int8 decode gemm4 decode4 quantize_rows pack load layer_chain qkv
# gpt_bigcode model ranks (by 1, 2 and 4 processes of Open MPI), and, only when named, because it writes 10 GB: quantize_checkpoint (kvant quantize on a model of 2 GiB, with
# and without calibration). model takes the file or folder that KVANT_MODEL names, else build/models/SmolLM2-135M-Instruct.Q4_1.gguf
# where examples/run.sh --real has put it, else a random Llama; --shape is layers x width x inner width there.
# --quick measures a few shapes within 3 minutes (installing and building not counted).
# --shape replaces the lists of benchmarks/shapes. KVANT_ISA chooses the kernel set; the peers are
# then held to the same instructions (oneDNN and OpenBLAS by their environment variables).
# --cuda measures int8_gemm, llm_int8, decode, gemm4, decode4 and quantize_rows on a GPU
# (benchmarks/cuda), against ceilings measured there, cuBLASLt, and bitsandbytes where KVANT_PYTHON
# (default: python3) has it and a torch with CUDA.
# Exit status: 0 whatever the figures are, 1 when an answer is wrong, 2 for a wrong command line.
set -euo pipefail
cd "$(dirname "$0")/.."

questions=()
arguments=()
four_bits=()  # for decode4 and gemm4
json=
cuda=0
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) arguments+=(--quick) ;;
    --cuda) cuda=1 ;;
    --question | --shape | --threads | --json | --format | --group)
      [ $# -ge 2 ] || { echo "benchmarks/run.sh: $1 needs a value" >&2; exit 2; }
      case "$1" in
        --question) questions+=("$2") ;;
        --json) json=$2 ;;
        --format | --group) four_bits+=("$1" "$2") ;;
        *) arguments+=("$1" "$2") ;;
      esac
      shift ;;
    -h | --help) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "benchmarks/run.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
  shift
done
if [ $cuda -eq 1 ]; then
  [ ${#questions[@]} -gt 0 ] || questions=(int8_gemm llm_int8 decode gemm4 decode4 quantize_rows)
  . src/cmake/packages.sh
  require_packages "${kvant_build_packages[@]}" libbenchmark-dev jq
  cmake -S . -B build-benchmarks-cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DKVANT_TESTS=OFF \
    -DKVANT_BENCHMARKS=ON -DKVANT_CUDA=ON --log-level=WARNING >/dev/null
  cmake --build build-benchmarks-cuda -j "$(nproc)" --target "${questions[@]/#/bench_cuda_}" -- --quiet
  parts=$(mktemp -d)
  trap 'rm -rf "$parts"' EXIT
  status=0
  for question in "${questions[@]}"; do
    code=0
    "build-benchmarks-cuda/bin/bench_cuda_$question" --json "$parts/$question.json" || code=$?
    [ $code -eq 77 ] && exit 0  # no GPU: it has said so
    [ $code -le 1 ] || exit $code
    [ $code -eq 0 ] || status=1
    case $question in  # what bitsandbytes has too, where there is a Python with it
      llm_int8 | decode4)
        "${KVANT_PYTHON:-python3}" benchmarks/cuda/peer_bitsandbytes.py "$parts/$question.json" || true ;;
    esac
  done
  if [ -n "$json" ]; then
    find "$parts" -name '*.json' -exec cat {} + | jq -s 'add // []' >"$json"
    echo "records: $json"
  fi
  exit $status
fi
all=(int8_gemm llm_int8 decode gemm4 decode4 quantize_rows pack load layer_chain qkv gpt_bigcode model ranks)
for question in "${questions[@]}"; do
  [[ " ${all[*]} quantize_checkpoint " == *" $question "* ]] ||
    { echo "benchmarks/run.sh: no question $question; there are: ${all[*]} quantize_checkpoint" >&2
      exit 2; }
done
[ ${#questions[@]} -gt 0 ] || questions=("${all[@]}")

. src/cmake/packages.sh
require_packages "${kvant_build_packages[@]}" libbenchmark-dev libdnnl-dev libopenblas-dev jq
with_mpi=OFF
if [[ " ${questions[*]} " == *" ranks "* ]]; then
  require_packages libopenmpi-dev openmpi-bin
  with_mpi=ON
fi
if ! grep -qs "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD\$" build-benchmarks/CMakeCache.txt; then
  rm -rf build-benchmarks
fi
ggml=
if [[ " ${questions[*]} " == *4\ * ]]; then
  if bash benchmarks/harness/fetch_ggml.sh build-benchmarks/ggml; then
    ggml=$PWD/build-benchmarks/ggml
  else
    echo "ggml's source package cannot be had: no figures of it" >&2
  fi
fi
cmake -S . -B build-benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release -DKVANT_TESTS=OFF \
  -DKVANT_BENCHMARKS=ON -DKVANT_GGML="$ggml" -DKVANT_MPI=$with_mpi --log-level=WARNING >/dev/null
targets=()
for question in "${questions[@]}"; do targets+=("bench_$question"); done
[[ " ${questions[*]} " != *" quantize_checkpoint "* ]] || targets+=(kvant_program gpt_bigcode)
cmake --build build-benchmarks -j "$(nproc)" --target "${targets[@]}" -- --quiet

# Peers at their best: OpenBLAS does not know every processor by its model number, and falls back to
# something from 2004; with KVANT_ISA=avx2 all are held to AVX2, with avx512vnni to what that has (no AMX).
if [ "${KVANT_ISA:-}" = avx2 ]; then
  export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX2} OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-Haswell}
elif grep -qs avx512vl /proc/cpuinfo; then
  [ "${KVANT_ISA:-}" != avx512vnni ] || export ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE_BF16}
  export OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-SkylakeX}
elif grep -qs avx2 /proc/cpuinfo; then
  export OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-Haswell}
fi

parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
status=0
mkdir -p build/bin
for question in "${questions[@]}"; do
  cp -f "build-benchmarks/bin/bench_$question" build/bin/
  if [ "$question" = quantize_checkpoint ]; then  # a program with a command line of its own
    build/bin/bench_quantize_checkpoint --programs build-benchmarks/bin
    build/bin/bench_quantize_checkpoint --programs build-benchmarks/bin --calibrate --repeat 1
    continue
  fi
  if [ "$question" = ranks ]; then  # first one rank, whose time the predictions for more begin from
    as_root=()
    [ "$(id -u)" -ne 0 ] || as_root=(--allow-run-as-root)
    unset KVANT_ALONE
    for ranks in 1 2 4; do
      code=0
      OMP_NUM_THREADS=1 mpirun "${as_root[@]}" --oversubscribe -np $ranks build/bin/bench_ranks "${arguments[@]}" \
        --json "$parts/ranks-$ranks.json" | tee "$parts/ranks.txt" || code=$?
      [ $code -eq 0 ] || status=1
      [ $ranks -gt 1 ] || export KVANT_ALONE=$(sed -n 's/.*: \([0-9.]*\) s a token.*/\1/p' "$parts/ranks.txt" | head -1)
    done
    build/bin/bench_ranks --predict
    continue
  fi
  code=0
  more=()
  [[ $question != *4 ]] || more=(${four_bits[@]+"${four_bits[@]}"})
  "build/bin/bench_$question" "${arguments[@]}" ${more[@]+"${more[@]}"} --json "$parts/$question.json" || code=$?
  [ $code -eq 0 ] || [ $code -eq 1 ] || exit $code
  [ $code -eq 0 ] || status=1
  echo
done
if [ -n "$json" ]; then
  find "$parts" -name '*.json' -exec cat {} + | jq -s 'add // []' >"$json"
  echo "records: $json"
fi
exit $status
