// All of the program but main().
#pragma once

namespace mobe {

// Parses the arguments, runs the command that they name and tells on stderr
// what failed. Gives the exit code: 0 done, 1 failed, 2 usage, 128 and more
// stopped.
int RunProgram(int argc, char** argv);

}  // namespace mobe
