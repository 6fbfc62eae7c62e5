# Copies the shared libraries of `program`, with the C library and its loader, into the
# wheel, beside the program. Started by that loader (python/mobe/__main__.py), it needs
# of a machine no more than the kernel.
set(folder "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/mobe/program")
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${program}"
     RESOLVED_DEPENDENCIES_VAR libraries)
foreach(library ${libraries})
  cmake_path(GET library FILENAME name)
  if(name MATCHES "^ld-linux")
    set(name ld.so)
  endif()
  # Not the link: a wheel has none.
  file(REAL_PATH "${library}" file)
  file(COPY_FILE "${file}" "${folder}/${name}" ONLY_IF_DIFFERENT)

  # By the last folder and the name: a package may know /lib for /usr/lib.
  string(REGEX MATCH "[^/]+/[^/]+$" file "${library}")
  execute_process(COMMAND dpkg-query --search "*/${file}"
                  OUTPUT_VARIABLE package COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE ":.*" "" package "${package}")
  file(MAKE_DIRECTORY "${folder}/licenses")
  file(COPY_FILE "/usr/share/doc/${package}/copyright" "${folder}/licenses/${package}")
endforeach()
