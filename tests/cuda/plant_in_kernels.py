"""Plants bugs in the kernels of the library, one at a time, and names what finds each.

    python3 plant_in_kernels.py BUILD [FILE...]     BUILD: a Ninja build with LIBTRAIN_CUDA=EXECUTED; FILE: names such as adam.cu

Every barrier, fence, arrival and wait is left out once, every wait for an mbarrier is for the other phase once, every atomic that orders is
relaxed once, and every warp-wide call gets half a mask once. The kernels that include the place are compiled again, instrumented, and the
tests of the device run with them. Exit status 1 if a bug is found by nothing. Takes minutes: half a minute a bug. Not part of CTest.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNELS = "kernels/cuda"
OPERATORS = [  # (what is done, pattern, replacement)
    ("without", re.compile(r"__syncthreads\(\);|__syncwarp\(\);|ptx::cp_async_wait<\d+>\(\);"
                           r"|ptx::(?:mbarrier_|wgmma_)(?:fence|fence_init|commit|arrive|wait|wait<\d+>)\([^;]*\);"
                           r"|ptx::fence_proxy_async\(\);|(?:group\.)?ring\.(?:claim|wait|release)\([^;]*\);"), "{}"),
    ("with the other phase in", re.compile(r"(ptx::mbarrier_wait\(.*), (.*)\);"), r"\1, (\2) ^ 1);"),
    ("without order in", re.compile(r"ptx::atomic_inc_acq_rel\("), "atomicInc("),
    ("with half of", re.compile(r"\bkAllLanes\b(?=,)"), "0xFFFFu"),
]
# The tests that meet most kernels in seconds, then those that meet the rest.
TESTS = ["device: f32 agrees*", "device: bf16 agrees*", "device: a second*", "device training: the same bits*",
         "[device]"]
HOPPER_TESTS = ["device hopper*"]  # off by default: these turn them on
FAULTS = {"race": r"race:", "shared memory not written": r"has\s+not\s+written", "cp.async not waited for": r"cp\.async",
          "address": r"out\s+of\s+bounds|misaligned|memory\s+of\s+the\s+host", "barrier": r"barriers?\b|deadlock",
          "warp-wide call": r"its\s+own\s+mask|in\s+the\s+mask|wait\s+in\b|names\s+lanes",
          "wgmma or TMA": r"wgmma|tma_load|fence_proxy_async"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def instrumented_kernels(build):
    """{file name: its compile command}"""
    commands = json.loads(subprocess.run(["ninja", "-C", build, "-t", "compdb"], check=True, capture_output=True,
                                         text=True).stdout)
    mine = [c for c in commands if "libtrain_cuda_kernels_instrumented.dir" in c["output"]]
    return {os.path.basename(c["file"]): c for c in mine if c["file"].endswith(".cu")}


def included(path, seen):
    """The path and all that it includes of this repository."""
    if path not in seen and os.path.exists(os.path.join(ROOT, path)):
        seen.add(path)
        for header in re.findall(r'#include "([^"]+)"', read(path)):
            included(header, seen)
    return seen


def places(files):
    """(path, line number, what, line with the bug) of every place that an operator fits."""
    for name in sorted(os.listdir(os.path.join(ROOT, KERNELS))):
        if not name.endswith((".cu", ".cuh")) or (files and name not in files):
            continue
        path = f"{KERNELS}/{name}"
        for number, line in enumerate(read(path).split("\n"), 1):
            for what, pattern, replacement in OPERATORS:
                for match in pattern.finditer(line.split("//")[0]):
                    bad_line = line[:match.start()] + match.expand(replacement) + line[match.end():]
                    yield path, number, f"{what} {match.group()}", bad_line


def write_with_bug(folder, path, number, bad_line):
    lines = read(path).split("\n")
    lines[number - 1] = bad_line
    target = os.path.join(folder, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


def compile_kernel(build, command, overlay, output):
    """With the include path `overlay` before all others, and the source from there if it is there."""
    relative = os.path.relpath(command["file"], ROOT)
    words = command["command"].replace(command["output"], output).replace("-Werror", "")
    words = re.sub(r"-MD -MT \S+ -MF \S+", "", words).replace(" -I", f" -I{overlay} -I", 1)
    if os.path.exists(os.path.join(overlay, relative)):
        words = words.replace(command["file"], os.path.join(overlay, relative))
    subprocess.run(words, shell=True, cwd=build, check=True, capture_output=True, text=True)


def catcher(build, libraries, path):
    """What the first failing test says, or None."""
    environment = dict(os.environ, LD_LIBRARY_PATH=libraries, OMP_NUM_THREADS="1")
    for test in (HOPPER_TESTS if "hopper" in path else []) + TESTS:
        done = subprocess.run([os.path.join(build, "tests/device/libtrain_device_tests"), test, "--abort"], env=environment,
                              capture_output=True, text=True, timeout=1800)
        if done.returncode:
            said = [fault for fault, pattern in FAULTS.items() if re.search(pattern, done.stdout)]
            return f"{said[0] if said else 'wrong result'} ({test})"
    return None


def try_bug(build, kernels, place, folder):
    path, number, _, bad_line = place
    overlay, libraries = os.path.join(folder, "overlay"), os.path.join(folder, "libraries")
    write_with_bug(overlay, path, number, bad_line)
    os.makedirs(libraries)
    objects = []
    for name, command in kernels.items():
        objects.append(os.path.join(build, command["output"]))
        if path in included(f"{KERNELS}/{name}", set()):
            objects[-1] = os.path.join(folder, name + ".o")
            compile_kernel(build, command, overlay, objects[-1])
    name = "libtrain_cuda_kernels.so"
    subprocess.run([os.environ.get("CXX", "g++"), "-shared", f"-Wl,-soname,{name}", "-Wl,-Bsymbolic", "-o",
                    os.path.join(libraries, name), *objects,
                    os.path.join(build, "kernels/cuda_on_cpu/libtrain_cuda_executor.so")], check=True)
    return catcher(build, libraries, path)


def main():
    build, files = os.path.abspath(sys.argv[1]), sys.argv[2:]
    kernels = instrumented_kernels(build)
    missed = 0
    for place in places(files):
        with tempfile.TemporaryDirectory() as folder:
            found = try_bug(build, kernels, place, folder)
        missed += found is None
        print(f"{place[0]}:{place[1]} {place[2]}: {found or 'FOUND BY NOTHING'}", flush=True)
    sys.exit(1 if missed else 0)


main()
