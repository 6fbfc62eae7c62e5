// mobe: compress, verify, reconstruct, run and measure MoE models with MoBE.
// No more than this: compiling the parser of arguments, a header, takes longer
// than all else of the folder, which therefore has it in as few places as can
// be.
#include "cli/program.h"

int main(int argc, char** argv) { return mobe::RunProgram(argc, argv); }
