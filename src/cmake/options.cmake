# kvant_find_package(OPTION DEBIAN_PACKAGE NAME ...): find_package, with an error that says which option
# does without the package.
macro(kvant_find_package option debian_package name)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "kvant: the package ${name} was not found, which ${option}=ON needs. "
                        "Install it (Debian: ${debian_package}), or do without it: -D${option}=OFF")
  endif()
endmacro()

# kvant_need(OPTION NEEDED...): says which options an option cannot do without.
function(kvant_need option)
  foreach(needed IN LISTS ARGN)
    if(NOT ${needed})
      message(FATAL_ERROR "kvant: ${option}=ON needs ${needed}=ON. Set that, or -D${option}=OFF")
    endif()
  endforeach()
endfunction()

if(NOT "cxx_std_20" IN_LIST CMAKE_CXX_COMPILE_FEATURES)
  message(FATAL_ERROR "kvant needs a C++20 compiler (g++ 12 or clang 14 do); "
                      "${CMAKE_CXX_COMPILER} is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
endif()

# What every target of the project shares: C++20, warnings for our own code, exact floats.
function(kvant_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                         # g++ 12 mistakes "literal" + std::string for an overlapping copy (GCC bug 105651).
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
                         $<$<BOOL:${KVANT_WERROR}>:-Werror>)
endfunction()

if(KVANT_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${KVANT_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  add_link_options(-fsanitize=${KVANT_SANITIZE})
endif()

# kvant_compile_together(TARGET PART): where KVANT_UNITY names the part, the sources of a folder share a
# dozen at a time what they include. (Sources with compile options of their own stay alone.)
function(kvant_compile_together target part)
  if(NOT part IN_LIST KVANT_UNITY)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cpp$")
  list(SORT sources)
  set(group 0)
  foreach(source IN LISTS sources)
    get_filename_component(folder ${source} DIRECTORY)
    if(NOT folder STREQUAL last_folder OR size EQUAL 12)
      math(EXPR group "${group} + 1")
      set(size 0)
    endif()
    set(last_folder ${folder})
    math(EXPR size "${size} + 1")
    set_property(SOURCE ${source} PROPERTY UNITY_GROUP ${group})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()

function(kvant_configure_target target)
  kvant_warnings(${target})
  target_compile_features(${target} PUBLIC cxx_std_20)
  # numerics.md: integers are bit-identical everywhere, so no contraction and no fast math.
  target_compile_options(${target} PRIVATE -ffp-contract=off)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${target} PRIVATE KVANT_BUILDING=1)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()
