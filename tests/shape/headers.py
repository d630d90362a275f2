"""Checks that public headers compile without anything before them.

    python3 headers.py REPOSITORY GENERATED_INCLUDES one-by-one COMPILER     every header alone, included twice
    python3 headers.py REPOSITORY GENERATED_INCLUDES in-one-cu NVCC          all headers in one .cu, for host and device

The self-test plants headers that must fail.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

import tree

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# --expt-relaxed-constexpr (std::array and std::bit_cast in device code) is what linking libtrain::libtrain sets.
NVCC_FLAGS = ["--expt-relaxed-constexpr", "-Werror", "all-warnings"]
# A user's kernel on the vocabulary of kernels/.
KERNEL = """
__global__ void kernel(libtrain::View<float> view) {
  if (threadIdx.x < view.dims[0]) view.data[threadIdx.x] = float(libtrain::bf16(1.5f));
}
"""


def public_headers(root):
    return sorted(path for path in tree.read_tree(root) if tree.is_public_header(path)) + ["libtrain/config.h"]


def compile_alone(compiler, includes, header):
    """The compiler's complaints about one header, or '' if it has none."""
    source = f'#include "{header}"\n' * 2 + "int main() {}\n"
    flags = ["-std=c++20", "-fsyntax-only", *WARNINGS, *(f"-I{folder}" for folder in includes)]
    done = subprocess.run([compiler, *flags, "-x", "c++", "-"], input=source, capture_output=True, text=True)
    return done.stderr or "failed" if done.returncode else ""


def compile_one_by_one(compiler, includes, headers):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        answers = pool.map(lambda header: compile_alone(compiler, includes, header), headers)
        return [f"{header} does not compile alone:\n{answer}" for header, answer in zip(headers, answers) if answer]


def compile_in_one_cu(nvcc, includes, headers):
    """All headers in one translation unit of nvcc, compiled for host and device."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "all_headers.cu")
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(f'#include "{header}"\n' for header in headers)
            file.write(KERNEL)
        flags = ["-std=c++20", "-arch=sm_80", *NVCC_FLAGS, *(f"-I{folder}" for folder in includes)]
        done = subprocess.run([nvcc, *flags, "-c", source, "-o", os.path.join(folder, "all_headers.o")],
                              capture_output=True, text=True)
    return [f"the headers do not compile in a .cu:\n{done.stdout}{done.stderr}"] if done.returncode else []


# Each must fail alone: a header that leans on what stood before it, one that is no C++, one without #pragma once.
PLANTS = {
    "leans.h": "#pragma once\ninline std::string planted() { return {}; }\n",
    "broken.h": "#pragma once\ninline int planted( { return 1; }\n",
    "unguarded.h": "struct Planted {};\n",
}
SOUND = {"sound.h": "#pragma once\n#include <string>\ninline std::string sound() { return {}; }\n"}


def self_test(check, includes, alone):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**PLANTS, **SOUND}.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        if alone:
            failed = check([folder, *includes], [*PLANTS, *SOUND])
            for name in PLANTS:
                tree.require(any(f.startswith(name) for f in failed), f"planted {name} compiled")
            tree.require(len(failed) == len(PLANTS), f"a sound header was reported: {failed}")
        else:  # one is enough here: nvcc takes seconds a file
            tree.require(check([folder, *includes], ["kernels/dtype.h", "broken.h"]), "planted broken.h compiled")


def main():
    root, generated, mode, compiler = sys.argv[1:]
    includes = [root, generated]
    work = {"one-by-one": compile_one_by_one, "in-one-cu": compile_in_one_cu}[mode]

    def check(folders, headers):
        return work(compiler, folders, headers)

    self_test(check, includes, mode == "one-by-one")
    headers = public_headers(root)
    tree.finish(f"headers {mode} {os.path.basename(compiler)}", check(includes, headers), f"{len(headers)} headers")


main()
