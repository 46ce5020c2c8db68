# The flag table: one row per kernel set with a translation unit of its own,
#   name | processors (regular expression on CMAKE_SYSTEM_PROCESSOR) | flags
# A row here, a row in src/dispatch/isa_list.inc, a traits file and a translation unit make a new
# instruction set. The rest of the library is built for the plain processor.
set(kvant_isa_table
  "avx2|x86_64|AMD64|-mavx2 -mfma -mf16c"
  "avx512|x86_64|AMD64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq"
  "avx512vnni|x86_64|AMD64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
  "avx512bf16|x86_64|AMD64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16")

# Optimised even in Debug builds: unoptimised intrinsics test nothing that ships.
# -fno-exceptions keeps the personality routine, a weak symbol, out of the objects. g++ 12 warns about
# its own AVX-512 header (GCC bug 105593).
set(kvant_isa_common_flags -O3 -ffp-contract=off -fno-math-errno -fno-exceptions
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>)

function(kvant_add_isa_sources target)
  target_sources(${target} PRIVATE cpu/scalar.cpp)
  set_property(SOURCE cpu/scalar.cpp APPEND PROPERTY COMPILE_OPTIONS -O3 -ffp-contract=off)
  foreach(row IN LISTS kvant_isa_table)
    string(REGEX MATCH "^([a-z0-9]+)\\|(.*)\\|([^|]*)$" _ "${row}")
    set(name ${CMAKE_MATCH_1})
    set(processors "${CMAKE_MATCH_2}")
    separate_arguments(flags UNIX_COMMAND "${CMAKE_MATCH_3}")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processors})$")
      target_sources(${target} PRIVATE cpu/${name}.cpp)
      set_property(SOURCE cpu/${name}.cpp APPEND PROPERTY COMPILE_OPTIONS ${flags}
                   ${kvant_isa_common_flags})
      string(TOUPPER ${name} upper)
      target_compile_definitions(${target} PRIVATE KVANT_HAS_ISA_${upper}=1)
    endif()
  endforeach()
endfunction()
