"""Runs the program, in place of this process. It lies beside this file with all of its
libraries, the C library and its loader among them (cmake/bundle.cmake)."""

import os
import sys
from pathlib import Path


def main():
    folder = Path(__file__).resolve().parent / "program"
    loader = str(folder / "ld.so")
    options = ["--argv0", "mobe", "--library-path", str(folder)]
    os.execv(loader, [loader, *options, str(folder / "mobe"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
