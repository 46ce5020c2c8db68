# nvcc and its flags, for KVANT_CUDA. The compiler on PATH, or one from Python wheels in the build
# folder (get_nvcc.sh).
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(KVANT_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(NOT KVANT_NVCC)
    message(STATUS "kvant: no nvcc on PATH; installing it into ${PROJECT_BINARY_DIR}/nvcc")
    execute_process(COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/get_nvcc.sh ${PROJECT_BINARY_DIR}/nvcc
                    RESULT_VARIABLE kvant_nvcc_status)
    if(NOT kvant_nvcc_status EQUAL 0)
      message(FATAL_ERROR "kvant: KVANT_CUDA needs nvcc 13.0 or newer: put it on PATH, or set "
                          "CMAKE_CUDA_COMPILER, or let python3 -m pip install it")
    endif()
    set(KVANT_NVCC ${PROJECT_BINARY_DIR}/nvcc/nvidia/cu13/bin/nvcc CACHE FILEPATH "nvcc" FORCE)
  endif()
  set(CMAKE_CUDA_COMPILER ${KVANT_NVCC} CACHE FILEPATH "CUDA compiler")
endif()
# sm_80 runs on 8.x, sm_90a on 9.0 only; the PTX is for all that is newer.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 80-virtual CACHE STRING "CUDA targets")
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(kvant_nvcc_checked ${CMAKE_CURRENT_LIST_DIR}/nvcc_checked.sh)

# kvant_cuda_library(NAME KIND sources...): .cu files by themselves, since the flags of the host's
# compiler mean nothing to nvcc. CMake 3.25 does not know that nvcc has C++20: that flag is by hand.
function(kvant_cuda_library name kind)
  add_library(${name} ${kind} ${ARGN})
  target_compile_options(${name} PRIVATE -std=c++20 -O3 -lineinfo
                         -Xptxas=-v,-warn-spills,-warn-lmem-usage
                         -Xcompiler=-Wall,-Wextra,-ffp-contract=off
                         $<$<BOOL:${KVANT_WERROR}>:-Xcompiler=-Werror>)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_SOURCE_DIR}/src)
  set_target_properties(${name} PROPERTIES CUDA_COMPILER_LAUNCHER "bash;${kvant_nvcc_checked}"
                        CUDA_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
endfunction()
