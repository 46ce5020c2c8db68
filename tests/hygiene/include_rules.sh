#!/usr/bin/env bash
# include_rules.sh SOURCE_DIR: who may include whom. Arrows point down only:
#
#   program                    -> everything
#   models                     -> methods, look, io (public headers; its JSON inside), kvant, Eigen, PCRE2 and utf8proc inside
#                                 (models/vector/avx*.cpp: <immintrin.h>)
#   methods                    -> kvant (public headers), Eigen inside
#   look                       -> io (public headers; its JSON, text, layers and table of
#                                 architectures inside), kvant
#   io                         -> kvant (public headers)
#   mpi                        -> kvant (public headers), MPI, the dynamic loader (for NCCL)
#   adapters (eigen, fmt)      -> everything public of the core
#   ops                        -> public headers, formats, dispatch; never an instruction set
#   formats (the rules)        -> kernel_table, gguf_blocks, vocabulary
#   kernel_table, kernels/     -> vocabulary
#   cpu                        -> kernel_table, vocabulary, itself, <immintrin.h>, <arm_neon.h>, C headers
#                                 (the scalar kernels, built for every processor: std,
#                                 and the rules in quantize.hpp)
#   dispatch/registry.cpp      -> the only file outside cpu that names its tables
#   quantize.hpp (the rules)   -> vocabulary
#   core/ (templates)          -> vocabulary, quantize.hpp, core/, headers without a library
#   vocabulary                 -> std
set -euo pipefail
cd "$1"
bad=0

# Includes of the given files as "FILE:LINE:what", without < > ".
includes() {
  grep -HnE '^[[:space:]]*#[[:space:]]*include' "$@" |
    sed -E 's/#[[:space:]]*include[[:space:]]*[<"]([^>"]*)[>"].*/\1/; s/:[[:space:]]+/:/'
}

# only WHO ALLOWED_REGEX FILES...: every include must match.
only() {
  local who=$1 allowed=$2 found
  shift 2
  found=$(includes "$@" | grep -vE ":[0-9]+:($allowed)\$" || true)
  if [ -n "$found" ]; then
    printf '%s may not include:\n%s\n' "$who" "$found" >&2
    bad=1
  fi
}

# never WHO FORBIDDEN_REGEX FILES...: no include may match.
never() {
  local who=$1 forbidden=$2 found
  shift 2
  found=$(includes "$@" | grep -E ":[0-9]+:($forbidden)\$" || true)
  if [ -n "$found" ]; then
    printf '%s may not include:\n%s\n' "$who" "$found" >&2
    bad=1
  fi
}

std='[a-z_0-9]+'
names='activation_options aligned_array codebook config core/checks core/number_text dtype error exact_decimal finfo float16 float8 float_element int4 matrix matrix_view round_order tf32 version visit_dtype weight_format'
vocabulary="kvant/(${names// /|})\\.hpp"
c_headers='cstdint|cstddef|type_traits|immintrin\.h|arm_neon\.h'
intrinsics='immintrin\.h|[a-z0-9]*intrin\.h|arm_neon\.h'
foreign='Eigen/.*|fmt/.*|nlohmann/.*|catch2/.*'

vocabulary_files=()
for name in $names; do vocabulary_files+=("include/kvant/$name.hpp"); done
only "the vocabulary" "$std|$vocabulary" "${vocabulary_files[@]}"
border='kvant/kernels/[a-z]+\.hpp'
only "the kernels' border" "$std|$vocabulary|$border" include/kvant/kernel_table.hpp include/kvant/kernels/*.hpp
only "quantize.hpp" "$std|$vocabulary" include/kvant/quantize.hpp

mapfile -t core < <(find include/kvant -maxdepth 1 -name '*.hpp' ! -name eigen.hpp ! -name fmt.hpp ! -name mpi.hpp)
only "a public header of the core" "$std|kvant/(core/)?[a-z0-9_]+\\.hpp|$border" "${core[@]}"
never "a public header of the core" "kvant/(eigen|fmt|mpi)\\.hpp|$foreign|$intrinsics" "${core[@]}"
only "a public header of io" "$std|kvant/(io/)?[a-z0-9_]+\\.hpp" include/kvant/io/*.hpp
only "a public header of methods" "$std|kvant/(methods/)?[a-z0-9_]+\\.hpp" include/kvant/methods/*.hpp
only "a public header of models" "$std|kvant/((io|look|methods|models)/)?[a-z0-9_]+\\.hpp" include/kvant/models/*.hpp
only "a public header of look" "$std|kvant/((io|look)/)?[a-z0-9_]+\\.hpp" include/kvant/look/*.hpp
only "eigen.hpp" "$std|kvant/[a-z0-9_]+\\.hpp|Eigen/.*" include/kvant/eigen.hpp
only "mpi.hpp" "$std|kvant/[a-z0-9_]+\\.hpp|mpi\\.h" include/kvant/mpi.hpp
only "fmt.hpp" "$std|kvant/[a-z0-9_]+\\.hpp|fmt/.*" include/kvant/fmt.hpp

# What needs no library to link: nothing that such a header includes may be declared KVANT_API only.
headers='activation_options block_range checked_view core error_metrics float_histogram quant_params quant_scheme quantize quantized_matrix tensor_view'
alone="$vocabulary|kvant/(core/[a-z0-9_]+|${headers// /|})\\.hpp"
header_files=(include/kvant/core/*.hpp)
for name in $headers; do
  [ "$name" = core ] || header_files+=("include/kvant/$name.hpp")
done
only "a header of kvant::core" "$std|$alone" "${header_files[@]}"

mapfile -t formats < <(find src/formats -type f)
only "the rules of formats" "$std|formats/.*|$vocabulary|kvant/(gguf_blocks|kernel_table|quantize)\\.hpp" "${formats[@]}"
mapfile -t ops < <(find src/ops -type f)
never "ops" "cpu/.*|cuda/.*|(io|look|models)/.*|kvant/((io|look|models)/.*|eigen\\.hpp|fmt\\.hpp)|$foreign|$intrinsics" "${ops[@]}"
mapfile -t cpu < <(find src/cpu -type f ! -name 'scalar*')
only "cpu" "$c_headers|cpu/.*|$vocabulary|kvant/kernel_table\\.hpp" "${cpu[@]}"
only "the scalar kernels" "$std|cpu/.*|$vocabulary|$border|kvant/(kernel_table|quantize)\\.hpp" src/cpu/scalar*
mapfile -t cuda < <(find src/cuda -type f -name '*.hpp' -o -name '*.cu' -path '*/cuda/*')
only "cuda" "$c_headers|cuda[A-Za-z_0-9]*\\.h|cuda/.*|$vocabulary|kvant/(kernel_table|weight_format|round_order)\\.hpp|kvant/kernels/[a-z]+\\.hpp" "${cuda[@]}"
mapfile -t dispatch < <(find src/dispatch -type f ! -name registry.cpp)
never "dispatch" "cpu/.*|cuda/.*|ops/.*|io/.*|$foreign|$intrinsics" "${dispatch[@]}"
never "registry.cpp" "cpu/(simd|micro).*|ops/.*|io/.*|$foreign|$intrinsics" src/dispatch/registry.cpp
mapfile -t io < <(find src/io -type f)
never "io" "cpu/.*|cuda/.*|ops/.*|dispatch/.*|(look|models)/.*|kvant/(look|models)/.*|Eigen/.*|fmt/.*|$intrinsics" "${io[@]}"
mapfile -t look < <(find src/look -type f)
only "look" "$std|look/.*|io/(json|text|layers|checkpoint)/.*|kvant/((io|look)/)?[a-z0-9_]+\\.hpp|nlohmann/.*" "${look[@]}"
never "look" "kvant/(eigen|fmt)\\.hpp" "${look[@]}"
mapfile -t models < <(find src/models -type f ! -path 'src/models/vector/avx*.cpp')
only "the models' kernels of an instruction set" "cstdint|immintrin\.h|models/vector/body\.hpp" src/models/vector/avx*.cpp
mapfile -t methods < <(find src/methods -type f)
only "methods" "$std|methods/.*|kvant/((core|methods)/)?[a-z0-9_]+\\.hpp|Eigen/[A-Z][a-z]+" "${methods[@]}"
never "methods" "kvant/(eigen|fmt)\\.hpp" "${methods[@]}"
only "models" "$std|models/.*|io/(json|text)/.*|kvant/((core|io|look|methods|models)/)?[a-z0-9_]+\\.hpp|nlohmann/.*|Eigen/Core|pcre2\\.h|utf8proc\\.h" "${models[@]}"
never "models" "kvant/(eigen|fmt)\\.hpp" "${models[@]}"
mapfile -t mpi < <(find src/mpi -type f)
only "mpi" "$std|mpi/.*|kvant/[a-z0-9_]+\\.hpp|mpi\\.h|dlfcn\\.h" "${mpi[@]}"
never "models" "mpi\\.h|kvant/mpi\\.hpp" "${models[@]}"
mapfile -t program < <(find src/program -name '*.?pp')
never "the program kvant" "(cpu|ops|dispatch|io|look|models)/.*|.*examples/.*" "${program[@]}"
mapfile -t programs < <(find examples benchmarks -name '*.cpp' -o -name '*.hpp')
never "a program" "cpu/.*|ops/.*|dispatch/.*|(io|look|models)/.*" "${programs[@]}"

[ $bad -eq 0 ] && echo "include rules hold"
exit $bad
