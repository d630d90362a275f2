"""Compares what can be counted exactly with the values in gate.json: no timing, so it holds on a noisy machine.

  python3 bench/gate.py cpu GATE_CPU            instructions of the CPU kernels and of a training step (callgrind: one thread, AVX2, without
                                                BLAS and libc), blocks of memory a step, and AVX-512 against AVX2 as a ratio of alternating times
  python3 bench/gate.py executed GATE_TRAFFIC   launches and requested bytes of a training step on the executed CUDA device
  … --update                                    writes what was counted: in the commit that explains why it changed

The exit status is 1 when a value differs by more than 2 % or is not in the file, 77 when nothing can be compared: another compiler than
the file's, or no valgrind.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

TOLERANCE = 0.02
VALUES = pathlib.Path(__file__).resolve().parent / "gate.json"
# Objects that are not counted: BLAS, the OpenMP run time, the loader, libm, and libc, whose memcpy depends on the size of the machine's caches.
NOT_OURS = re.compile(r"blas|libgomp|ld-linux|lib[cm][.-]")
ROUNDS, STEPS = 5, 20  # of timing
SLOWEST_AVX512 = 0.95  # seconds of AVX2 by those of AVX-512: below, the choice of instruction set would be wrong


def instructions_of(part):
    """Instructions of our own code in one part of callgrind's output: (name of the part, number)."""
    name, total, here, names, called = None, 0, "", {}, False
    for line in part.read_text().splitlines():
        if match := re.match(r"desc: Trigger: Client Request: (.*)", line):
            name = match[1]
        elif match := re.match(r"ob=\((\d+)\)(?: (.*))?", line):
            here = names.setdefault(match[1], match[2] or "")
        elif match := re.match(r"cob=\((\d+)\) (.*)", line):
            names.setdefault(match[1], match[2])
        elif line.startswith("calls="):
            called = True  # the next line is the callee's cost, counted there
        elif re.match(r"[+\-*\d]", line) and len(line.split()) == 2:
            total += 0 if called or NOT_OURS.search(os.path.basename(here)) else int(line.split()[1])
            called = False
    return name, total


def count_cpu(program):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIBTRAIN_ISA": "avx2"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out", program],
                              env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"gate.py: {program} under valgrind: {done.stderr[-2000:]}")
        counts = dict(filter(lambda item: item[0], map(instructions_of, pathlib.Path(folder).glob("out*"))))
    if match := re.search(r"blocks a step: (\d+)", done.stdout):
        counts["blocks of memory/a training step"] = int(match[1])
    return counts


def ratio_of_times(program):
    """Median seconds of a step with AVX2 over those with AVX-512, alternating; None where there is no AVX-512."""
    if not {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(pathlib.Path("/proc/cpuinfo").read_text().split()):
        return None
    seconds = collections.defaultdict(list)
    for _ in range(ROUNDS):
        for isa in ("avx2", "avx512"):
            done = subprocess.run([program, "--time", str(STEPS)], env={**os.environ, "LIBTRAIN_ISA": isa, "OMP_NUM_THREADS": "1"},
                                  capture_output=True, text=True, check=True)
            seconds[isa].append(float(done.stdout))
    return statistics.median(seconds["avx2"]) / statistics.median(seconds["avx512"])


def count_executed(program):
    instrumented = {**os.environ, "OMP_NUM_THREADS": "1"}
    step = json.loads(subprocess.run([program], env=instrumented, capture_output=True, text=True, check=True).stdout)
    counts = {"blocks of memory": step.pop("blocks")}
    for kernel, (launches, requested) in step.items():
        counts[f"launches/{kernel}"], counts[f"requested bytes/{kernel}"] = launches, requested
    counts["launches"] = sum(launches for launches, _ in step.values())
    counts["requested bytes"] = sum(requested for _, requested in step.values())
    return counts


def compiler():
    return subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()


def differences(counted, committed):
    for name in sorted(counted.keys() | committed.keys()):
        now, before = counted.get(name), committed.get(name)
        if now is None or before is None:
            yield f"{name}: {'not counted any more' if now is None else f'{now}, not in gate.json'}"
        elif abs(now - before) > TOLERANCE * before:
            yield f"{name}: {before} -> {now} ({100 * (now / before - 1):+.1f} %)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["cpu", "executed"])
    parser.add_argument("program")
    parser.add_argument("--update", action="store_true", help="write gate.json instead of comparing")
    args = parser.parse_args()
    if args.part == "cpu" and not shutil.which("valgrind"):
        print("gate.py: no valgrind here, so that no instructions are counted")
        return 77
    values = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    if args.part == "cpu" and not args.update and values["compiler"] != compiler():
        print(f"gate.py: instructions were counted with g++ {values['compiler']}, here is {compiler()}: not comparable")
        return 77
    counted = count_cpu(args.program) if args.part == "cpu" else count_executed(args.program)
    if args.update:
        values.update({args.part: dict(sorted(counted.items())), "compiler": compiler()})
        VALUES.write_text(json.dumps(values, indent=1) + "\n")
    for name, value in counted.items():  # a control: more than the tolerance must be seen, in either direction
        assert value == 0 or all(list(differences(counted, {**counted, name: value * change})) for change in (0.97, 1.03)), name
    found = list(differences(counted, values[args.part]))
    if args.part == "cpu" and (ratio := ratio_of_times(args.program)) is not None:
        for _ in range(2):  # a busy host may slow one side
            ratio = ratio if ratio >= SLOWEST_AVX512 else ratio_of_times(args.program)
        print(f"a training step with AVX2 takes {ratio:.2f} times the time with AVX-512")
        if ratio < SLOWEST_AVX512:
            found.append(f"AVX-512 is slower than AVX2: ratio {ratio:.2f}, at least {SLOWEST_AVX512} expected")
    print("\n".join([f"{len(counted)} values compared with {VALUES.name}, {len(found)} differ by more than {TOLERANCE:.0%}", *found]))
    if found:
        print("If that is on purpose, run again with --update and say why in the commit.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
