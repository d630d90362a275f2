"""Checks the machine code of kernels: python3 sass.py BUILD_FOLDER

Every kernel of kernels/cuda/*_hopper*.cu must multiply by wgmma (HGMMA), take its tiles by TMA (UTMALDG), hand registers over (USETMAXREG) and
touch no local memory (LDL, STL). In kernels whose rows are stored in packs of 16 bytes no pack may be stored as four words: nvcc does that where
branches meet in its value, and it shows in no test but time. Needs cuobjdump, which some installations of nvcc lack. Names the kernels that
are wrong. The self-test reads a listing of two kernels that are wrong.
"""
import os
import re
import shutil
import subprocess
import sys

SKIPPED = 77
WANTED, UNWANTED = ("HGMMA", "UTMALDG", "USETMAXREG"), ("LDL", "STL")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", re.MULTILINE)
WORD_STORE = re.compile(r"STG\.E (?:desc\[\w+\])?\[(R\d+)(?:\.64)?(?:\+(-?0x[0-9a-f]+))?\]")

# Sources, and of their mangled kernels those that store rows of bf16 in packs; rows of a block write single words of sums besides.
HOPPER = r"_hopper\w*\.cu\.o$"
PACKED = ((r"(layer|rms)_norm\.cu\.o$", r"norm_(?:forward|backward)_kernelILb[01]ELi[12]EN\w*4bf16E"),
          (r"bias_activation\.cu\.o$", r"\d(?:forward|backward)_kernelI\w+Li8EN\w*4bf16E"))

PLANTED = """
\t\tFunction : planted
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P1 UTMALDG.2D [UR8], [UR4] ;
        /*0020*/                   USETMAXREG.DEALLOC.CTAPOOL 0x28 ;
        /*0030*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0040*/               @P0 STL [R1], R0 ;
\t\tFunction : torn
        /*0000*/                   STG.E desc[UR6][R8.64], R2 ;
        /*0010*/                   STG.E desc[UR6][R38.64], R49 ;
        /*0020*/                   STG.E desc[UR6][R38.64+0x4], R51 ;
        /*0030*/                   STG.E desc[UR6][R38.64+0x8], R53 ;
        /*0040*/                   STG.E.128 desc[UR6][R10.64], R4 ;
"""


def read_listing(text):
    """[(kernel, its code)]: a kernel comes once for each architecture"""
    return [(part.split()[0], part) for part in text.split("Function : ")[1:]]


def counts_of(code):
    counts = {}
    for name in INSTRUCTION.findall(code):
        counts[name] = counts.get(name, 0) + 1
    return counts


def hopper_faults(code):
    counts = counts_of(code)
    return [f"no {name}" for name in WANTED if name not in counts] + [f"{counts[name]} {name}" for name in UNWANTED if name in counts]


def torn_faults(code):
    """Stores of a word right behind another, to the word after it."""
    stores = [(register, int(offset or "0", 16)) for register, offset in WORD_STORE.findall(code)]
    torn = sum(a[0] == b[0] and b[1] == a[1] + 4 for a, b in zip(stores, stores[1:]))
    return [f"{torn} words of torn stores"] if torn else []


def find_objects(folder, pattern):
    return sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names if re.search(pattern, name))


def check(cuobjdump, folder, objects, kernels, faults_of):
    """How many kernels of the objects are wrong. There must be some."""
    wrong, seen = 0, 0
    for path in find_objects(folder, objects):
        listing = read_listing(subprocess.run([cuobjdump, "-sass", path], check=True, capture_output=True, text=True).stdout)
        faults = [(kernel, faults_of(code)) for kernel, code in listing if re.search(kernels, kernel)]
        print(f"{os.path.basename(path)}: {len(faults)} kernels")
        for kernel, found in faults:
            if found:
                print(f"  {kernel}: {', '.join(found)}")
                wrong += 1
        seen += len(faults)
    if not seen:
        sys.exit(f"no kernels {kernels} in objects {objects} of {folder}")
    return wrong


def main():
    planted = dict(read_listing(PLANTED))
    if hopper_faults(planted["planted"]) != ["no HGMMA", "1 STL"] or torn_faults(planted["torn"]) != ["2 words of torn stores"] or torn_faults(planted["planted"]):
        sys.exit("self-test failed: the planted kernels were not read")
    cuobjdump = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if not cuobjdump:
        print("skipped: cuobjdump is not here (PyPI has it as nvidia-cuda-cuobjdump)")
        sys.exit(SKIPPED)
    folder = sys.argv[1]
    wrong = check(cuobjdump, folder, HOPPER, "hopper_", hopper_faults)
    for objects, kernels in PACKED:
        wrong += check(cuobjdump, folder, objects, kernels, torn_faults)
    sys.exit(1 if wrong else 0)


main()
