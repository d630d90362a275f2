"""Checks the machine code of the kernels for Hopper: python3 sass.py BUILD_FOLDER

Every kernel of kernels/cuda/*_hopper*.cu must multiply by wgmma (HGMMA), take its tiles by TMA (UTMALDG), hand registers over (USETMAXREG) and
touch no local memory (LDL, STL). Needs cuobjdump, which some installations of nvcc lack. Prints a line for each kernel. The self-test
reads a listing with a kernel that lacks HGMMA.
"""
import os
import re
import shutil
import subprocess
import sys

SKIPPED = 77
WANTED, UNWANTED = ("HGMMA", "UTMALDG", "USETMAXREG"), ("LDL", "STL")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", re.MULTILINE)

PLANTED = """
\t\tFunction : planted
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P1 UTMALDG.2D [UR8], [UR4] ;
        /*0020*/                   USETMAXREG.DEALLOC.CTAPOOL 0x28 ;
        /*0030*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0040*/               @P0 STL [R1], R0 ;
"""


def read_listing(text):
    """{kernel: {instruction: how often}}"""
    kernels = {}
    for part in text.split("Function : ")[1:]:
        counts = kernels.setdefault(part.split()[0], {})
        for name in INSTRUCTION.findall(part):
            counts[name] = counts.get(name, 0) + 1
    return kernels


def faults_of(counts):
    return [f"no {name}" for name in WANTED if name not in counts] + [f"{counts[name]} {name}" for name in UNWANTED if name in counts]


def main():
    if faults_of(read_listing(PLANTED)["planted"]) != ["no HGMMA", "1 STL"]:
        sys.exit("self-test failed: the planted kernel was not read")
    objects = sorted(os.path.join(root, name) for root, _, names in os.walk(sys.argv[1])
                     for name in names if re.search(r"_hopper\w*\.cu\.o$", name))
    cuobjdump = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if not cuobjdump:
        print("skipped: cuobjdump is not here (PyPI has it as nvidia-cuda-cuobjdump)")
        sys.exit(SKIPPED)
    if not objects:
        sys.exit("no objects of kernels/cuda/*_hopper*.cu in " + sys.argv[1])
    wrong = 0
    for path in objects:
        kernels = read_listing(subprocess.run([cuobjdump, "-sass", path], check=True, capture_output=True, text=True).stdout)
        if not kernels:
            sys.exit(path + ": no kernels")
        for kernel, counts in kernels.items():
            faults = faults_of(counts)
            wrong += bool(faults)
            name = re.search(r"\d\d(hopper_[a-z]+_kernel)ILi(\d+)", kernel)
            print(f"{'<'.join(name.groups()) + '>' if name else kernel:30} {counts.get('HGMMA', 0):3} HGMMA, "
                  f"{counts.get('UTMALDG', 0)} UTMALDG{': ' if faults else ''}{', '.join(faults)}")
    sys.exit(1 if wrong else 0)


main()
