// What the process does before and after everything else: its descriptors, the
// faults that have a name, and the line of an error.
#pragma once

#include <initializer_list>
#include <string_view>

namespace mobe {

// First thing in main. A standard descriptor that is closed would be given to
// the next file that is opened, which then gets what is printed. So: nothing is
// read from a closed stdin, messages for a closed stderr are dropped, and what
// is printed on a closed stdout is an error.
void OpenStandardDescriptors();

// Ends the process with a line and exit code 1 when a mapped file was truncated
// or its disk failed (SIGBUS), and when oneDNN had no memory (see
// IsInsideProduct), or where nothing may be thrown: nlohmann's destructor of an
// object takes memory. Other faults stay what they are.
void NameFaults();

// glibc loads its unwinder when an exception first passes through one of its
// own functions (std::call_once does), and aborts when there is no memory for
// that, as there is not when the exception is of lack of memory. So: at once.
void LoadUnwinder();

// "mobe: " and the parts on one line of stderr. Takes no memory, which may be
// what is missing, and cuts what is long.
void PrintError(std::initializer_list<std::string_view> parts);

}  // namespace mobe
