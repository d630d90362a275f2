"""Checks what ptxas said of every CUDA kernel: python3 ptxas.py BUILD_FOLDER KERNEL_SOURCE...

No kernel may spill registers or use a stack frame, and no wgmma may have had a wait put after it, which ptxas does where registers are touched
too early (messages C7510 and its neighbours). Every source must have its report, beside its object as <object>.ptxas
(keep_ptxas_report.sh puts it there). Prints a line for each source: kernels, architectures, most registers. The self-test reads a
report with a spill and one with a wait.
"""
import os
import re
import sys

SKIPPED = 77
KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
SERIAL = re.compile(r"\(C75\d\d\).*")

PLANTED = """ptxas info    : Compiling entry function '_Z1kv' for 'sm_90'
ptxas info    : Function properties for _Z1kv
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""
PLANTED_WAIT = "ptxas info    : (C7517) warpgroup.wait is injected in around line 153 by compiler to allow use of registers defined by GMMA"


def read_report(text):
    """[(kernel, architecture, registers, (frame, stores, loads))]"""
    kernels, name, frame = [], None, (0, 0, 0)
    for line in text.splitlines():
        if match := KERNEL.search(line):
            name, frame = match.groups(), (0, 0, 0)
        elif match := FRAME.search(line):
            frame = tuple(int(number) for number in match.groups())
        elif (match := REGISTERS.search(line)) and name:
            kernels.append((*name, int(match.group(1)), frame))
            name = None
    return kernels


def find_reports(folder):
    return {name[:-len(".o.ptxas")]: os.path.join(root, name)
            for root, _, names in os.walk(folder) for name in names if name.endswith(".o.ptxas")}


def main():
    (planted,) = read_report(PLANTED)
    if planted != ("_Z1kv", "sm_90", 255, (8, 4, 4)):
        sys.exit("self-test failed: the planted spill was not read")
    if not SERIAL.search(PLANTED_WAIT):
        sys.exit("self-test failed: the planted wait was not read")
    reports = find_reports(sys.argv[1])
    if not reports:
        print("skipped: this build keeps no reports (tests/run.sh does)")
        sys.exit(SKIPPED)
    faults = []
    for source in sorted(sys.argv[2:]):
        stem = os.path.basename(source)
        if stem not in reports:
            faults.append(f"{source}: no report")
            continue
        with open(reports[stem], encoding="utf-8") as file:
            report = file.read()
        kernels = read_report(report)
        faults += [f"{stem}: {message}" for message in SERIAL.findall(report)]
        for kernel, architecture, registers, frame in kernels:
            if any(frame):
                faults.append(f"{stem} {architecture} {kernel}: stack frame {frame[0]}, spill stores {frame[1]}, loads {frame[2]}")
        if kernels:
            architectures = sorted({k[1] for k in kernels})
            print(f"{stem:28} {len(kernels) // len(architectures):3} kernels, at most {max(k[2] for k in kernels):3} registers, "
                  f"{' '.join(architectures)}")
    for fault in faults:
        print(fault)
    print(f"ptxas: {len(sys.argv) - 2} sources, {len(faults)} faults")
    sys.exit(1 if faults else 0)


main()
