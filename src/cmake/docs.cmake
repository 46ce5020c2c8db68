# cmake --build build --target docs: reference pages by Doxygen, in build/docs/html.
find_program(KVANT_DOXYGEN doxygen)
if(KVANT_DOXYGEN)
  add_custom_target(docs COMMAND bash ${PROJECT_SOURCE_DIR}/src/cmake/docs.sh ${KVANT_DOXYGEN}
                                 ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/docs VERBATIM)
else()
  add_custom_target(docs COMMAND ${CMAKE_COMMAND} -E echo
                                 "docs: Doxygen is missing (Debian package doxygen)"
                         COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endif()
