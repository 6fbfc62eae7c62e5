# The module that fits on GPUs (src/fit/torch): what it needs of PyTorch's C++ library.
# Its folder is where its CMake package is: of a pip wheel, which build/venv has for the
# tests, of an unpacked libtorch, or of the system; -DTorch_DIR=... names another. The
# package's own script is not run: it wants the compilers of the cards that the library
# was made for, and nothing here is compiled for a card.
set(MOBE_TORCH AUTO CACHE STRING
    "compress on GPUs by PyTorch: AUTO (when it is found), ON, OFF")
# A wheel runs on other machines, and sanitizers don't bear what it is loaded by.
if(NOT MOBE_TORCH OR SKBUILD OR MOBE_SANITIZE)
  return()
endif()

file(GLOB wheels ${CMAKE_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch
     /usr/lib/python3*/site-packages/torch /usr/local/lib/python3*/*-packages/torch)
find_path(Torch_DIR TorchConfig.cmake HINTS ${wheels} /usr
          PATH_SUFFIXES share/cmake/Torch)
cmake_path(SET torch NORMALIZE "${Torch_DIR}/../../..")
find_path(TORCH_INCLUDE ATen/ATen.h HINTS ${torch}/include)
find_library(TORCH_LIBRARY torch HINTS ${torch}/lib)
find_library(TORCH_CPU_LIBRARY torch_cpu HINTS ${torch}/lib)
find_library(C10_LIBRARY c10 HINTS ${torch}/lib)
foreach(part Torch_DIR TORCH_INCLUDE TORCH_LIBRARY TORCH_CPU_LIBRARY C10_LIBRARY)
  if(NOT ${part})
    if(NOT MOBE_TORCH STREQUAL "AUTO")
      message(FATAL_ERROR "MOBE_TORCH=ON: PyTorch is not found (${part}); scripts/setup.sh "
                          "says how to get it, -DTorch_DIR where it is")
    endif()
    message(STATUS "PyTorch: none; compress runs on the processors")
    return()
  endif()
endforeach()

# The first in which every device tells what memory it has.
file(STRINGS ${torch}/share/cmake/Torch/TorchConfigVersion.cmake line
     REGEX "PACKAGE_VERSION \"")
string(REGEX REPLACE ".*\"([0-9.]+).*\".*" "\\1" version "${line}")
if(version VERSION_LESS 2.10)
  message(STATUS "PyTorch: ${version} is too old (2.10 is needed); compress runs on the "
                 "processors")
  return()
endif()
message(STATUS "PyTorch: ${version}, ${torch}")

file(GLOB MOBE_TORCH_SOURCES CONFIGURE_DEPENDS src/fit/torch/*.cc)
# A module of its own: what it needs of ours beside headers is an error's text.
add_library(mobe_torch MODULE ${MOBE_TORCH_SOURCES} src/base/error.cc
            src/base/unicode.cc src/base/visible.cc)
target_include_directories(mobe_torch PRIVATE src)
target_include_directories(mobe_torch SYSTEM PRIVATE ${TORCH_INCLUDE})
# PyTorch's headers bring a {fmt} of another version than the system's library.
target_compile_definitions(mobe_torch PRIVATE FMT_HEADER_ONLY)
target_compile_options(mobe_torch PRIVATE -fvisibility=hidden)
# libtorch.so refers to the library of the cards: it must stay, though nothing here does.
target_link_libraries(mobe_torch PRIVATE mobe_flags PkgConfig::HWY ICU::uc
  -Wl,--push-state,--no-as-needed ${TORCH_LIBRARY} -Wl,--pop-state
  ${TORCH_CPU_LIBRARY} ${C10_LIBRARY})
set_target_properties(mobe_torch PROPERTIES UNITY_BUILD ON
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} INSTALL_RPATH_USE_LINK_PATH ON)
add_dependencies(mobe mobe_torch)
# For this machine, whose PyTorch it refers to: not in a .deb (cmake/install.cmake).
install(TARGETS mobe_torch DESTINATION lib/mobe COMPONENT torch OPTIONAL)
