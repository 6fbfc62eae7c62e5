#!/usr/bin/env python3
"""Rejects an include in src/ that goes up the layers, and what else would blur
them: a file over MAX_LINES lines, a folder that no layer names, a file outside
any folder, two types of one name in one namespace (which the linker may take for
one).

Checks a tree that breaks every rule first, to see that each would be noticed;
with --self-test, only that one.
"""

import re
import sys
import tempfile
from pathlib import Path

MAX_LINES = 600

# Folder -> folders that it may include from, besides itself and whatever those
# may include from.
LAYERS = {
    "base": [],
    "tensor": ["base"],
    "kernels": ["tensor"],
    "io": ["tensor"],
    "fit": ["kernels"],
    "jinja": ["base"],
    "text": ["jinja"],
    "families": ["io"],
    "machine": ["kernels"],
    "mobe": ["families", "fit"],
    "compress": ["mobe"],
    "model": ["mobe", "text"],
    "eval": ["compress", "model"],
    "serve": ["eval"],
    "speed": ["machine", "model"],
    "cli": ["serve", "speed"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


# Of a type that is defined outside of any function or other type. Namespaces open
# and close in lines of their own, as clang-format has them.
TYPE = re.compile(r"(?:struct|class|union|enum(?: class)?) (\w+)\b(?!::)(?:[ \t]*:[^:].*|[^;]*\{.*|)$")
OPENS = re.compile(r"namespace ?([\w:]*) \{$")


def types_of(text):
    """The names of the types that others may see, with their namespaces."""
    names = []
    spaces = []
    for line in text.splitlines():
        if opens := OPENS.match(line):
            spaces.append(opens[1])
        elif line.startswith("}  // namespace"):
            spaces.pop()
        elif (found := TYPE.match(line)) and "" not in spaces:
            names.append("::".join([*spaces, found[1]]))
    return names


def below(folder):
    """The folder and all that it may include from."""
    return {folder}.union(*(below(lower) for lower in LAYERS[folder]))


def problems_of_file(src, path):
    name = path.relative_to(src)
    folder = name.parts[0]
    if len(name.parts) == 1:
        return [f"src/{name}: lies in no layer's folder"]
    if folder not in LAYERS:
        return [f"src/{name}: {folder} is no layer of tests/{Path(__file__).name}"]
    text = path.read_text()
    problems = []
    lines = len(text.splitlines())
    if lines > MAX_LINES:
        problems.append(f"src/{name}: {lines} lines, at most {MAX_LINES} allowed")
    for include in INCLUDE.findall(text):
        parts = Path(include).parts
        if ".." in parts or len(parts) == 1:
            problems.append(f'src/{name}: "{include}" is not relative to src/')
        elif parts[0] in LAYERS and parts[0] not in below(folder):
            problems.append(f'src/{name}: {folder} may not include "{include}"')
    return problems


def problems_of(src):
    files = sorted(path for path in src.rglob("*") if path.suffix in (".cc", ".h"))
    problems = [problem for path in files for problem in problems_of_file(src, path)]
    owners = {}
    for path in files:
        for name in types_of(path.read_text()):
            owner = owners.setdefault(name, path)
            if owner != path:
                problems.append(f"src/{path.relative_to(src)}: {name} is defined in "
                                f"src/{owner.relative_to(src)}, too")
    return problems


def self_test():
    """Writes one file for each rule; fails unless each is judged as expected."""
    cases = {  # file -> (contents, rejected)
        "base/a.h": ('#include "io/b.h"\n', True),
        "kernels/a.cc": ('  #  include "io/b.h"\n', True),
        "families/a.h": ('#include "mobe/b.h"\n', True),
        "serve/a.cc": ('#include "speed/b.h"\n', True),
        "text/a.cc": ('#include "../model/b.h"\n', True),
        "text/b.cc": ('#include "b.h"\n', True),
        "base/long.cc": ("\n" * (MAX_LINES + 1), True),
        "extra/a.h": ("", True),
        "a.h": ("", True),
        "base/b.cc": ('#include <io.h>\n#include "hwy/b.h"\n', False),
        "cli/a.cc": ('#include "base/b.h"\n#include "kernels/b.h"\n', False),
        "base/full.cc": ("\n" * MAX_LINES, False),
    }
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        src = Path(folder)
        for name, (contents, _) in cases.items():
            (src / name).parent.mkdir(exist_ok=True)
            (src / name).write_text(contents)
        for name, (_, rejected) in cases.items():
            if bool(problems_of_file(src, src / name)) != rejected:
                wrong.append(f"self-test: {name} rejected: {not rejected}")
        if len(problems_of(src)) != sum(bad for _, bad in cases.values()):
            wrong.append("self-test: the tree does not have each problem once")
        twins = "namespace mobe {{\nstruct A;\n{}struct B{} {{\n}};\n{}}}  // namespace mobe\n"
        hidden = "namespace {\n", "}  // namespace\n"
        for first, second, rejected in [
            (twins.format("", "", ""), twins.format("", " : C", ""), True),
            (twins.format("", "", ""), twins.format(hidden[0], "", hidden[1]), False),
        ]:
            (src / "cli/first.h").write_text(first)
            (src / "text/second.cc").write_text(second)
            found = [problem for problem in problems_of(src) if "::B " in problem]
            if bool(found) != rejected:
                wrong.append(f"self-test: a second B rejected: {not rejected}")
    return wrong


def main():
    problems = self_test()
    if sys.argv[1:] != ["--self-test"]:
        problems += problems_of(Path(__file__).resolve().parent.parent / "src")
    print(*problems, sep="\n", end="\n" if problems else "")
    print("include order:", f"{len(problems)} problems" if problems else "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
