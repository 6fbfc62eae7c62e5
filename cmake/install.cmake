# What is installed, by `cmake --install`, as a .deb by cpack, and in the wheel.
# The bundled model is not: it is for trying mobe in its source.

# Otherwise installing would first build the tests and benchmarks.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

if(SKBUILD)  # pyproject.toml: with all that the program needs
  install(TARGETS mobe DESTINATION mobe/program)
  install(CODE "set(program \"$<TARGET_FILE:mobe>\")
                include(\"${CMAKE_SOURCE_DIR}/cmake/bundle.cmake\")")
  return()
endif()

# Said by the program itself.
set(written)
function(write_by_mobe file)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/install/${file}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/install
    COMMAND mobe ${ARGN} > ${CMAKE_BINARY_DIR}/install/${file}
    DEPENDS mobe VERBATIM)
  set(written ${written} ${CMAKE_BINARY_DIR}/install/${file} PARENT_SCOPE)
endfunction()
write_by_mobe(mobe.1 manual)
write_by_mobe(mobe completions bash)
write_by_mobe(_mobe completions zsh)
write_by_mobe(mobe.fish completions fish)
add_custom_target(manual DEPENDS ${written})

install(TARGETS mobe DESTINATION bin)
install(FILES ${CMAKE_BINARY_DIR}/install/mobe.1 DESTINATION share/man/man1)
install(FILES ${CMAKE_BINARY_DIR}/install/mobe
        DESTINATION share/bash-completion/completions)
install(FILES ${CMAKE_BINARY_DIR}/install/mobe.fish
        DESTINATION share/fish/vendor_completions.d)
# Debian's zsh looks in one folder below /usr and in another below /usr/local.
install(CODE "set(file \"${CMAKE_BINARY_DIR}/install/_mobe\")")
install(CODE [[
  set(folder site-functions)
  if(CMAKE_INSTALL_PREFIX MATCHES "/usr/?$")
    set(folder vendor-completions)
  endif()
  file(INSTALL "${file}" DESTINATION "${CMAKE_INSTALL_PREFIX}/share/zsh/${folder}")
]])
install(FILES README.md CHANGELOG.md DESTINATION share/doc/mobe)
install(DIRECTORY docs DESTINATION share/doc/mobe)
install(FILES LICENSE DESTINATION share/doc/mobe RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "The mobe authors <mobe@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY
    "makes mixture-of-experts language models smaller and runs them")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
# What mobe eval --allow-code runs.
set(CPACK_DEBIAN_PACKAGE_SUGGESTS python3)
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};mobe;Unspecified;/")
include(CPack)
