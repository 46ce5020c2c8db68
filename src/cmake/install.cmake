# cmake --install: libraries, headers, CMake package (find_package(kvant)) and pkg-config files. One
# export set per component, so that a consumer of the core needs neither Eigen nor fmt.
include(CMakePackageConfigHelpers)

set(kvant_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/kvant)
foreach(target IN LISTS kvant_installed_targets)
  string(REGEX REPLACE "^kvant_?" "" component ${target})
  if(component STREQUAL "")
    set(component core)
  endif()
  install(TARGETS ${target} EXPORT kvant_${component}
          RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  list(APPEND kvant_installed_components ${component})
endforeach()
list(REMOVE_DUPLICATES kvant_installed_components)  # kvant::core and kvant::kvant are one
foreach(component IN LISTS kvant_installed_components)
  install(EXPORT kvant_${component} NAMESPACE kvant:: FILE kvant-${component}.cmake
          DESTINATION ${kvant_package_dir})
endforeach()

set(kvant_header_filter)
foreach(pair "IO:kvant/io" "IO:kvant/look" "MODELS:kvant/models" "MODELS:kvant/methods"
             "MPI:mpi.hpp" "EIGEN:eigen.hpp" "FMT:fmt.hpp")
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 option)
  list(GET pair 1 pattern)
  if(NOT KVANT_${option})
    list(APPEND kvant_header_filter PATTERN ${pattern} EXCLUDE)
  endif()
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kvant DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" ${kvant_header_filter})

# A static kvant needs OpenMP at the consumer's link step; a shared one has it inside.
set(kvant_needs_openmp FALSE)
if(OpenMP_CXX_FOUND AND NOT BUILD_SHARED_LIBS)
  set(kvant_needs_openmp TRUE)
endif()
# A static kvant with CUDA needs its runtime there, too.
set(kvant_needs_cuda FALSE)
if(KVANT_CUDA AND NOT BUILD_SHARED_LIBS)
  set(kvant_needs_cuda TRUE)
endif()
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/kvantConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/kvantConfig.cmake
                              INSTALL_DESTINATION ${kvant_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break its callers.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kvantConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kvantConfig.cmake ${PROJECT_BINARY_DIR}/kvantConfigVersion.cmake
        DESTINATION ${kvant_package_dir})

# pkg-config: kvant, and one file per component. The prefix is where the file lies, so that an
# installed tree can be moved.
file(RELATIVE_PATH kvant_pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" kvant_pc_prefix ${kvant_pc_prefix})
function(kvant_pkg_config name description requires libraries)
  set(flags ${ARGN})
  configure_file(${PROJECT_SOURCE_DIR}/src/cmake/kvant.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

kvant_pkg_config(kvant-core "kvant: dtypes, quantizers and LLM.int8() as headers" "" "")
if(NOT KVANT_LIBRARY)
  return()
endif()
set(kvant_pc_libraries "-L\${libdir} -lkvant")
if(kvant_needs_openmp)
  string(APPEND kvant_pc_libraries " ${OpenMP_CXX_FLAGS}")
endif()
if(kvant_needs_cuda)
  string(APPEND kvant_pc_libraries " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt -lpthread")
endif()
kvant_pkg_config(kvant "${PROJECT_DESCRIPTION}" "" "${kvant_pc_libraries}" " -DKVANT_LINKED=1")
if(KVANT_IO)
  kvant_pkg_config(kvant-io "kvant: reading and writing model files" "kvant = ${PROJECT_VERSION}"
                   "-L\${libdir} -lkvant_io")
  kvant_pkg_config(kvant-look "kvant: reports, checks and plans of model files"
                   "kvant-io = ${PROJECT_VERSION}" "-L\${libdir} -lkvant_look")
endif()
if(KVANT_MODELS)
  kvant_pkg_config(kvant-methods "kvant: calibrated quantization methods"
                   "kvant = ${PROJECT_VERSION}" "-L\${libdir} -lkvant_methods")
  kvant_pkg_config(kvant-models "kvant: language models on its layers"
                   "kvant-look = ${PROJECT_VERSION}, kvant-methods = ${PROJECT_VERSION}, libpcre2-8, libutf8proc"
                   "-L\${libdir} -lkvant_models")
endif()
if(KVANT_MPI)
  # What mpicxx would add; not every MPI brings a pkg-config file.
  set(kvant_pc_mpi_flags)
  foreach(directory IN LISTS MPI_CXX_INCLUDE_DIRS)
    string(APPEND kvant_pc_mpi_flags " -I${directory}")
  endforeach()
  list(JOIN MPI_CXX_LIBRARIES " " kvant_pc_mpi_libraries)
  list(TRANSFORM CMAKE_DL_LIBS PREPEND -l OUTPUT_VARIABLE kvant_pc_dl)
  kvant_pkg_config(kvant-mpi "kvant: layers and models on several machines"
                   "kvant = ${PROJECT_VERSION}" "-L\${libdir} -lkvant_mpi ${kvant_pc_mpi_libraries} ${kvant_pc_dl}"
                   "${kvant_pc_mpi_flags}")
endif()
if(KVANT_EIGEN)
  kvant_pkg_config(kvant-eigen "kvant: views of Eigen matrices" "kvant = ${PROJECT_VERSION}, eigen3"
                   "")
endif()
if(KVANT_FMT)
  kvant_pkg_config(kvant-fmt "kvant: fmt formatters" "kvant = ${PROJECT_VERSION}, fmt" "")
endif()
