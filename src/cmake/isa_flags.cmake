# The kernel sets that have a translation unit of their own, src/cpu/ROOM/NAME.cpp: its flags, and on
# which processors (CMAKE_SYSTEM_PROCESSOR) it is built. The rest of the library is built for the
# plain processor. src/README.md says what else a new set takes.
set(kvant_processors_x86 "x86_64|AMD64")
set(kvant_processors_arm "aarch64|arm64")

set(kvant_isa_names_x86 avx2 avxvnni avx512 avx512vnni avx512bf16 amx)
set(kvant_isa_flags_avx2 -mavx2 -mfma -mf16c)
set(kvant_isa_flags_avxvnni ${kvant_isa_flags_avx2} -mavxvnni)
set(kvant_isa_flags_avx512 ${kvant_isa_flags_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
set(kvant_isa_flags_avx512vnni ${kvant_isa_flags_avx512} -mavx512vnni)
set(kvant_isa_flags_avx512bf16 ${kvant_isa_flags_avx512} -mavx512bf16)
set(kvant_isa_flags_amx ${kvant_isa_flags_avx512vnni} -mamx-tile -mamx-int8)

set(kvant_isa_names_arm neon neon_dotprod neon_i8mm)
# (g++ would move loads of operands forward, and then keep sums in memory for want of registers.)
set(kvant_isa_flags_neon $<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>)
set(kvant_isa_flags_neon_dotprod ${kvant_isa_flags_neon} -march=armv8.2-a+dotprod)
set(kvant_isa_flags_neon_i8mm ${kvant_isa_flags_neon} -march=armv8.2-a+i8mm)

# The sets of the processor at hand, and the room of src/cpu that they are in.
set(kvant_isa_names "")
set(kvant_isa_room "")
foreach(room x86 arm)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${kvant_processors_${room}})$")
    set(kvant_isa_room ${room})
    set(kvant_isa_names ${kvant_isa_names_${room}})
  endif()
endforeach()

# Optimised even in Debug builds: unoptimised intrinsics test nothing that ships. (With sanitizers one
# file would take minutes.)
set(kvant_isa_optimization -O3)
if(KVANT_SANITIZE)
  set(kvant_isa_optimization -O1)
endif()
# -fno-exceptions keeps the personality routine, a weak symbol, out of the objects. g++ 12 warns about
# its own AVX-512 header (GCC bug 105593).
set(kvant_isa_common_flags ${kvant_isa_optimization} -ffp-contract=off -fno-math-errno -fno-exceptions
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>)

function(kvant_add_isa_sources target)
  target_sources(${target} PRIVATE cpu/scalar.cpp)
  set_property(SOURCE cpu/scalar.cpp APPEND PROPERTY COMPILE_OPTIONS ${kvant_isa_optimization} -ffp-contract=off)
  foreach(name IN LISTS kvant_isa_names)
    set(source cpu/${kvant_isa_room}/${name}.cpp)
    target_sources(${target} PRIVATE ${source})
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS ${kvant_isa_flags_${name}}
                 ${kvant_isa_common_flags})
    string(TOUPPER ${name} upper)
    target_compile_definitions(${target} PRIVATE KVANT_HAS_ISA_${upper}=1)
  endforeach()
endfunction()
