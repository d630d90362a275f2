"""Checks what may include and say what, by reading the sources: python3 layering.py REPOSITORY

Each rule below is one function from {path: text} to violations. The self-test plants one violation of every rule in a
copy of the tree and must see it reported.
"""
import re
import sys

import tree

# Lower ranks know nothing of higher ones. An include must go to a lower rank, stay within its unit, or be in SIDEWAYS.
RANKS = {
    "kernels": 0,
    "config": 1, "error": 1, "utf8": 1, "tickets": 1,
    "cuda": 2, "shape": 2, "stream_order": 3,
    "device": 3, "init": 3,
    "host_memory": 2, "memory_source": 3, "allocator": 4, "side_stream": 4, "graph": 5, "step_graphs": 6,
    "tensor": 5,
    "tape": 6, "parameters": 6, "parameters_optimizer": 6, "packing": 6, "random": 6,
    "step_mailbox": 7, "data": 6, "io": 6, "loss_spikes": 2, "compare": 6, "tensor_file": 7, "optimizer_state": 8,
    "ops": 7, "optim": 7,
    "nn": 8, "train_loop": 8, "train_loop_nonfinite": 8, "checkpoint": 8, "nonfinite": 7,
    "memory_plan": 8,
    "libtrain": 9,  # the umbrella header
}
SIDEWAYS = {("data", "packing"), ("memory_source", "device"), ("checkpoint", "train_loop"),
            ("checkpoint", "optimizer_state"), ("parameters_optimizer", "parameters"), ("train_loop_nonfinite", "train_loop")}
FORBIDDEN = {("nn", "optim"), ("data", "parameters"), ("data", "tape"), ("io", "parameters"), ("io", "tape")}
# Single files that may reach behind the kernel contracts.
INTO_KERNELS = {
    ("libtrain/device.cpp", "kernels/cpu/blas.h"),  # names the BLAS that is linked
    *((f"libtrain/{name}.cpp", "kernels/cuda/runtime.h") for name in ("allocator", "cuda", "device", "graph", "memory_source")),
}

# Headers of which the include path chooses the one for nvcc or for execution on the CPU.
TWINS = ("ptx.cuh", "vocabulary.cuh", "hopper.cuh")

# Macros of public headers, each with the only file that may define it.
MACROS = {
    "LIBTRAIN_CHECK": "libtrain/error.h",
    "LIBTRAIN_HOST_DEVICE": "kernels/view.h",
    "LIBTRAIN_BROADCAST": "kernels/broadcast.h",  # likewise
    "LIBTRAIN_POINTWISE": "kernels/pointwise.h",  # a list of functions, which C++20 cannot loop over
}
# the first for what nvcc compiles, by the generation of devices
CUDA_TESTED_IN = ["kernels/cuda/native/vocabulary.cuh", "kernels/view.h"]

STANDARD = set("""
algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes climits
clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal cstdarg cstddef cstdint
cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem format forward_list fstream
functional future initializer_list iomanip ios iosfwd iostream istream iterator latch limits list locale map memory
memory_resource mutex new numbers numeric optional ostream queue random ranges ratio regex scoped_allocator semaphore
set shared_mutex source_location span sstream stack stdexcept stop_token streambuf string string_view strstream
syncstream system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set utility valarray
variant vector version""".split())

TOP_LEVEL = {"CMakeLists.txt", "LICENSE", "README.md", "bench", "docs", "examples", "kernels", "libtrain", "tests"}


def includes(text):
    """(line, opening bracket, header) of every #include."""
    plain = tree.without_comments(text)
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)', plain, re.MULTILINE):
        yield tree.line_of(plain, match.start()), match.group(1), match.group(2)


def directives(text):
    """(line, directive with its continuation lines) of every preprocessor line."""
    plain = tree.without_comments(text)
    for match in re.finditer(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", plain, re.MULTILINE):
        yield tree.line_of(plain, match.start()), match.group()


def code(files, *folders):
    return {path: text for path, text in files.items() if path.endswith(tree.CODE) and path.startswith(folders)}


def public(files):
    return {path: text for path, text in files.items() if tree.is_public_header(path)}


def unit(path):
    """The row of RANKS that a file belongs to: its folder, or for a file right in libtrain/ its stem."""
    parts = path.split("/")
    return "kernels" if parts[0] == "kernels" else parts[1].split(".")[0] if len(parts) == 2 else parts[1]


def may_include(path, header):
    if header.startswith(("kernels/cpu/", "kernels/cuda/", "kernels/cuda_on_cpu/")):
        return path.startswith("kernels/") and path.count("/") > 1 or (path, header) in INTO_KERNELS
    above, below = unit(path), unit(header)
    if above == below or (above, below) in SIDEWAYS:
        return True
    return RANKS[above] > RANKS[below] and (above, below) not in FORBIDDEN


def check_directions(files):
    for path, text in code(files, "libtrain/", "kernels/").items():
        if unit(path) not in RANKS:
            yield f"{path}: unit '{unit(path)}' has no rank in tests/shape/layering.py"
            continue
        for line, bracket, header in includes(text):
            if bracket == "<" or header in TWINS and path.startswith("kernels/cuda"):
                continue
            if not header.startswith(("libtrain/", "kernels/")):
                yield f'{path}:{line}: "{header}" is not written from the root of the repository'
            elif unit(header) not in RANKS or not may_include(path, header):
                yield f"{path}:{line}: {unit(path)} must not include {header}"


def check_circles(files):
    sources = code(files, "libtrain/", "kernels/")
    graph = {path: [header for _, kind, header in includes(text) if kind == '"'] for path, text in sources.items()}
    done = set()

    def visit(path, trail):
        if path in trail:
            yield "circle: " + " -> ".join([*trail[trail.index(path):], path])
        elif path not in done and path in graph:
            for header in graph[path]:
                yield from visit(header, [*trail, path])
            done.add(path)

    for path in graph:
        yield from visit(path, [])


def check_foreign_headers(files):
    for path, text in public(files).items():
        for line, bracket, header in includes(text):
            if bracket == "<" and header not in STANDARD:
                yield f"{path}:{line}: public header includes <{header}>, which is not of the C++ standard library"


def check_macros(files):
    for path, text in public(files).items():
        for line, directive in directives(text):
            name = re.match(r"\s*#\s*define\s+(\w+)", directive)
            if name and MACROS.get(name.group(1)) != path:
                yield f"{path}:{line}: public header defines the macro {name.group(1)}"


def check_cuda_tests(files):
    found = []
    for path, text in code(files, "libtrain/", "kernels/", "examples/", "bench/", "tests/").items():
        for line, directive in directives(text):
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif|elifdef|elifndef)\b.*(CUDA|NVCC)", directive, re.DOTALL):
                found.append((path, line))
    if sorted(path for path, _ in found) != CUDA_TESTED_IN:
        places = ", ".join(f"{path}:{line}" for path, line in found)
        yield f"CUDA is tested by the preprocessor in: {places or 'no place'}; expected once each, in {' and '.join(CUDA_TESTED_IN)}"


def check_unfinished(files):
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    for path, text in files.items():
        for match in marks.finditer(text):
            yield f"{path}:{tree.line_of(text, match.start())}: {match.group()}"


def check_machine_paths(files):
    places = re.compile(r"(?<![\w.}/~-])/(home|root|work|Users|mnt|media|srv|scratch|tmp)/\w")
    for path, text in files.items():
        for match in places.finditer(text):
            if not (path.endswith(".md") and match.group(1) == "tmp"):  # documents may show a temporary file
                yield f"{path}:{tree.line_of(text, match.start())}: path of one machine: {match.group()}…"


def check_side_effects(files):
    banned = re.compile(r"\b(?:exit|_Exit|quick_exit|_exit|abort|terminate|assert|printf|fprintf|vprintf|puts|putchar)"
                        r"\s*\(|\bstd::c(?:out|err|log)\b|<iostream>")
    for path, text in code(files, "libtrain/", "kernels/").items():
        plain = tree.without_comments(text, keep_strings=False)
        for match in banned.finditer(plain):
            yield f"{path}:{tree.line_of(plain, match.start())}: the library must not call {match.group()}…"


def check_kernel_sources(files):
    """What a kernel source may not say, because its execution on the CPU would not see it, or differ from a device."""
    banned = re.compile(r"<<<|\bextern\s+__shared__|\basm\b|\bthread_local\b|\bcooperative_groups\b|\b(?:std::)?mem(?:cpy|set|move)\s*\("
                        r"|\b__activemask\b|\batomicAdd\s*\(\s*&?\s*\w*(?:float|double)")
    for path, text in files.items():
        if not (path.startswith("kernels/cuda/") and path.endswith((".cu", ".cuh"))) or path.startswith("kernels/cuda/native/"):
            continue
        plain = tree.without_comments(text, keep_strings=False)
        for match in banned.finditer(plain):
            yield f"{path}:{tree.line_of(plain, match.start())}: a kernel source must not say {match.group()}"
        for line, directive in directives(text):
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", directive):
                yield f"{path}:{line}: the include path, not the preprocessor, tells a device from its execution"


def check_top_level(files):
    for top in sorted({path.split("/")[0] for path in files} - TOP_LEVEL):
        yield f"{top}: not one of the places at the top level ({', '.join(sorted(TOP_LEVEL))})"


RULES = [check_directions, check_circles, check_foreign_headers, check_macros, check_cuda_tests, check_unfinished,
         check_machine_paths, check_side_effects, check_kernel_sources, check_top_level]

# (rule, file to append to or create, text): each must be reported by its rule.
PLANTS = [
    (check_directions, "kernels/view.h", '#include "libtrain/config.h"'),
    (check_directions, "kernels/dtype.h", '#include "kernels/cpu/common.h"'),
    (check_directions, "kernels/cpu/common.h", '#include "libtrain/tensor.h"'),
    (check_directions, "kernels/cpu/common.h", '#include "ptx.cuh"'),
    (check_directions, "libtrain/tensor.cpp", '#include "kernels/cuda/runtime.h"'),
    (check_directions, "libtrain/tensor.h", '#include "libtrain/tape.h"'),
    (check_directions, "libtrain/tensor.cpp", '#include "kernels/cpu/common.h"'),
    (check_directions, "libtrain/ops/layer_norm.h", '#include "libtrain/nn/linear.h"'),
    (check_directions, "libtrain/ops/layer_norm.h", '#include "libtrain/train_loop.h"'),
    (check_directions, "libtrain/ops/planted.cpp", '#include "libtrain/checkpoint.h"'),
    (check_directions, "libtrain/nn/planted.cpp", '#include "libtrain/train_loop.h"'),
    (check_directions, "libtrain/nn/planted.h", '#include "libtrain/optim/adam.h"'),
    (check_directions, "libtrain/train_loop.h", '#include "libtrain/nn/linear.h"'),
    (check_directions, "libtrain/data/batch.h", '#include "libtrain/ops.h"'),
    (check_directions, "libtrain/io/planted.h", '#include "libtrain/nn/linear.h"'),
    (check_directions, "libtrain/optim/adam.h", '#include "libtrain/libtrain.h"'),
    (check_directions, "libtrain/data/batch.h", '#include "pairs.h"'),
    (check_directions, "libtrain/tensor.h", '#include "tests/references.h"'),
    (check_directions, "libtrain/planted.h", "#pragma once"),
    (check_circles, "kernels/view.h", '#include "kernels/dtype.h"'),
    (check_foreign_headers, "libtrain/tape.h", "#include <fmt/core.h>"),
    (check_foreign_headers, "kernels/view.h", "# include <cuda_runtime.h>"),
    (check_macros, "libtrain/tape.h", "#define LIBTRAIN_OTHER(x) x"),
    (check_macros, "libtrain/tape.h", "#define LIBTRAIN_CHECK(x) x"),
    (check_cuda_tests, "libtrain/device.cpp", "#if defined(A) || \\\n    defined(__CUDACC__)\n#endif"),
    (check_cuda_tests, "kernels/view.h", "#ifdef LIBTRAIN_CUDA\n#endif"),
    (check_unfinished, "libtrain/tape.cpp", "// TO" "DO: later"),
    (check_machine_paths, "tests/planted.sh", "cat /ho" "me/someone/file"),
    (check_side_effects, "libtrain/tape.cpp", "void f() { std::exit (1); }"),
    (check_side_effects, "libtrain/tape.cpp", "void f() { std::cout << 1; }"),
    (check_side_effects, "kernels/cpu/planted.cpp", 'void f() { printf("x"); }'),
    (check_kernel_sources, "kernels/cuda/add.cu", "void f() { k<<<1, 2>>>(); }"),
    (check_kernel_sources, "kernels/cuda/add.cu", "extern __shared__ float x[];"),
    (check_kernel_sources, "kernels/cuda/common.cuh", "void f() { memcpy(a, b, 4); }"),
    (check_kernel_sources, "kernels/cuda/common.cuh", 'void f() { asm("bar.sync 0;"); }'),
    (check_kernel_sources, "kernels/cuda/common.cuh", "#ifdef __linux__\n#endif"),
    (check_top_level, "scripts/planted.sh", "true"),
]
# What must not be reported: the same words where they do no harm.
HARMLESS = [
    (check_side_effects, "libtrain/tape.h", '/* exit(1) */ // abort()\nauto* s = "printf(";\nstatic_assert(true);'),
    (check_foreign_headers, "libtrain/tape.h", "// #include <fmt/core.h>"),
    (check_directions, "libtrain/nn/planted.h", '#include "libtrain/ops.h"\n#include "libtrain/data/batch.h"'),
    (check_directions, "kernels/cpu/planted.cpp", '#include "kernels/cpu/common.h"'),
    (check_cuda_tests, "libtrain/device.cpp", "#if defined(__x86_64__)\n#endif"),
]


def new_violations(rule, files, path, text):
    planted = dict(files)
    planted[path] = planted.get(path, "") + "\n" + text + "\n"
    return set(rule(planted)) - set(rule(files))


def self_test(files):
    for rule, path, text in PLANTS:
        tree.require(new_violations(rule, files, path, text), f"{rule.__name__} did not see {text!r} in {path}")
    for rule, path, text in HARMLESS:
        seen = new_violations(rule, files, path, text)
        tree.require(not seen, f"{rule.__name__} reported {text!r} in {path}: {seen}")
    planted_rules = {rule for rule, _, _ in PLANTS}
    tree.require(planted_rules == set(RULES), "a rule has no planted violation")


def main():
    files = tree.read_tree(sys.argv[1])
    self_test(files)
    violations = [f"[{rule.__name__[6:]}] {violation}" for rule in RULES for violation in rule(files)]
    tree.finish("layering", violations, f"{len(files)} files, {len(PLANTS)} planted violations seen")


main()
