"""Checks in the compiled kernels that no code crosses from one instruction set into another.

    python3 isa.py OBJECT_LIST COMPILER

OBJECT_LIST has one line for each kernel library: its Isa, its number in the enum, then its object files, all separated
by semicolons. A weak symbol (a template or inline function) is kept once by the linker, whichever object it came from:
if an AVX-512 object offered one under a name that baseline code also uses, a machine without AVX-512 could be given it.
So every weak symbol must name its own Cpu<isa>. And the baseline must not use wide registers, which the others must.
"""
import os
import re
import subprocess
import sys
import tempfile

import tree

MUST_USE = {"kBaseline": "", "kAvx2": "ymm", "kAvx512": "zmm"}
MUST_NOT_USE = {"kBaseline": ["ymm", "zmm"], "kAvx2": ["zmm"], "kAvx512": []}
NO_CODE = "DW.ref."  # a pointer to the exception handler of the language, the same in every object


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported_symbols(path):
    """(kind, demangled name) of every defined symbol that the linker sees; weak ones have the kinds V, W and u."""
    pattern = re.compile(r"^[0-9a-f]+ ([A-Zu]) (.+)$", re.MULTILINE)
    return pattern.findall(output_of("nm", "--demangle", "--defined-only", path))


def check_symbols(isa, number, path):
    own = f"Cpu<(libtrain::Isa){number}>"
    others = re.compile(r"Cpu<\(libtrain::Isa\)(?!%s>)\d+>" % number)
    for kind, name in exported_symbols(path):
        if others.search(name):
            yield f"{isa} {os.path.basename(path)}: code of another instruction set: {name}"
        elif isa != "kBaseline" and kind in "VWu" and own not in name and not name.startswith(NO_CODE):
            yield f"{isa} {os.path.basename(path)}: weak symbol that does not name {own}: {name}"


def registers(path):
    """Which of the wide registers the code mentions."""
    return set(re.findall(r"%([yz]mm)", output_of("objdump", "--disassemble", "--no-show-raw-insn", path)))


def check_library(isa, number, objects):
    used = set()
    for path in objects:
        yield from check_symbols(isa, number, path)
        found = registers(path)
        used |= found
        for register in sorted(found & set(MUST_NOT_USE[isa])):
            yield f"{isa} {os.path.basename(path)}: uses {register}"
    if MUST_USE[isa] and MUST_USE[isa] not in used:
        yield f"{isa}: no object uses {MUST_USE[isa]}"


# Compiled as if it were an AVX2 kernel. One function of it is weak and does not name its instruction set.
PLANT = """
namespace libtrain { enum class Isa : unsigned char { kBaseline, kAvx2, kAvx512 }; template <Isa isa> struct Cpu {}; }
inline __attribute__((noinline)) void planted(float* x) { for (int i = 0; i < 64; ++i) x[i] *= 2; }
template <libtrain::Isa isa> void sound(libtrain::Cpu<isa>, float* x) { planted(x); }
template void sound(libtrain::Cpu<libtrain::Isa::kAvx2>, float*);
"""


def self_test(compiler, libraries):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "planted.o")
        subprocess.run([compiler, "-std=c++20", "-O3", "-mavx2", "-x", "c++", "-", "-c", "-o", path], input=PLANT,
                       text=True, check=True)
        seen = list(check_library("kAvx2", "1", [path]))
        tree.require(len(seen) == 1 and "planted(float*)" in seen[0], f"planted weak symbol: {seen}")
        seen = list(check_library("kBaseline", "0", [path]))
        tree.require(any("uses ymm" in s for s in seen), f"planted AVX2 code in the baseline: {seen}")
        tree.require(any("another instruction set" in s for s in seen), f"planted foreign kernel: {seen}")
    objects = {isa: paths for isa, _, paths in libraries}
    tree.require(any("uses zmm" in s for s in check_library("kAvx2", "1", objects["kAvx512"])),
                 "AVX-512 as AVX2 not seen")
    tree.require(any("no object uses zmm" in s for s in check_library("kAvx512", "2", objects["kBaseline"])),
                 "baseline as AVX-512 not seen")


def main():
    object_list, compiler = sys.argv[1:]
    with open(object_list, encoding="utf-8") as file:
        fields = [line.strip().split(";") for line in file if line.strip()]
    libraries = [(isa, number, objects) for isa, number, *objects in fields]
    self_test(compiler, libraries)
    violations = [v for isa, number, objects in libraries for v in check_library(isa, number, objects)]
    tree.finish("isa", violations, ", ".join(f"{isa}: {len(objects)} objects" for isa, _, objects in libraries))


main()
