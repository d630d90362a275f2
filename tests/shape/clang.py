"""Checks that clang accepts every source of the library's CPU build without a warning, whichever compiler builds it.

    python3 clang.py REPOSITORY GENERATED_INCLUDES COMPILER OTHER_INCLUDES

OTHER_INCLUDES (of the libraries that libtrain uses) are separated by colons. Only the front end runs, and of the kernels
only the baseline is compiled: what clang refuses and g++ does not, such as (clang 14) a structured binding in an OpenMP
region, is the same in every instruction set. The self-test plants sources that must fail.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

import tree

FLAGS = ["-std=c++20", "-fopenmp", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DLIBTRAIN_ISA=kBaseline"]


def sources(root):
    return sorted(p for p in tree.read_tree(root) if p.endswith(".cpp") and p.startswith(("libtrain/", "kernels/cpu/")))


def compile_source(command, path):
    """The compiler's complaints about one source, or '' if it has none."""
    done = subprocess.run([*command, path], capture_output=True, text=True)
    return done.stderr or "failed" if done.returncode else ""


def compile_all(command, root, paths):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        answers = pool.map(lambda path: compile_source(command, os.path.join(root, path)), paths)
        return [f"{path} does not compile:\n{answer}" for path, answer in zip(paths, answers) if answer]


def loop(start, clauses=""):
    return f"void work(const int* dims, int* data) {{\n  {start}\n#pragma omp parallel for {clauses}\n" \
        "  for (int i = 0; i < rows; ++i) data[i] = columns;\n}\n"


# What only a compiler that looks into OpenMP regions refuses (bindings will not do: later versions of clang take them);
# a warning.
PLANTS = {
    "region.cpp": loop("int rows = dims[0], columns = dims[1];", "default(none) shared(data)"),
    "warning.cpp": loop("const int rows = dims[0], columns = dims[1], unused = 0;"),
}
SOUND = {"sound.cpp": loop("const int rows = dims[0], columns = dims[1];"), "omp.cpp": "#include <omp.h>\n"}


def self_test(command):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**PLANTS, **SOUND}.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        failed = "".join(compile_all(command, folder, [*PLANTS, *SOUND]))
        if "omp.cpp does" in failed:
            tree.skip(f"{command[0]} has no OpenMP")
        for name in PLANTS:
            tree.require(f"{name} does" in failed, f"planted {name} compiled")
        tree.require("sound.cpp does" not in failed, f"a sound source was reported: {failed}")


def main():
    root, generated, compiler, others = sys.argv[1:]
    after = [f"-idirafter{folder}" for folder in others.split(":") if folder not in ("", root, generated)]
    command = [compiler, *FLAGS, f"-I{root}", f"-I{generated}", *after]
    self_test(command)
    paths = sources(root)
    tree.finish("clang", compile_all(command, root, paths), f"{len(paths)} sources")


main()
