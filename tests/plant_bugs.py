"""Plants bugs in backward formulas, loss accounting, optimizers and schedules, one at a time, and names the test that finds each.

    python3 plant_bugs.py BUILD [--device] [--sample] [WORD...]

BUILD is a Ninja build without CUDA and the bugs are those of planted_bugs.txt; with --device it is one with LIBTRAIN_CUDA=EXECUTED, and they are those of
device/planted_bugs.txt. WORD: only bugs whose name has one of these.

Each bug changes one place of one file. What contains the place is compiled again, beside the sources and not in them, linked with
the objects of BUILD, and the tests run until one fails. Kernels are compiled for the baseline instruction set, and run with it. Exit status 1 if a
bug is found by nothing, 77 if BUILD is no Ninja build. All of them take 20 minutes on two cores; --sample, which CTest runs, takes three bugs.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from typing import NamedTuple

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
HELPERS = ("main.cpp", "op_cases.cpp", "op_checks.cpp")  # what test programs need beside the tests themselves


class Side(NamedTuple):
    bugs: str     # the list
    program: str  # that runs the tests, in its build
    target: str   # by which CMake knows it
    sample: tuple  # names of bugs


CPU = Side("tests/planted_bugs.txt", "tests/libtrain_tests", "libtrain_tests",
           ("rms_norm: dx lacks the share of the mean", "cross_entropy: ignored rows count", "adam: no bias correction of v"))
DEVICE = Side("tests/device/planted_bugs.txt", "tests/device/libtrain_device_tests", "libtrain_device_tests",
              ("side stream: memory is let go at once",))


class Bug(NamedTuple):
    name: str
    path: str
    before: str
    after: str
    sources: list  # that are compiled again; for a header of libtrain/ the tests that include it
    tests: str     # Catch2's filter


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def parse_bugs(text):
    """Blocks of lines: name, '@ path [| source…]', '? filter', '- before', '+ after' (several of each are lines that follow on each other)."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        if not lines:
            continue
        kind = lambda sign: [line[2:] for line in lines[1:] if line[0] == sign]
        path, _, sources = kind("@")[0].partition("|")
        path = path.strip()
        yield Bug(lines[0], path, "\n".join(kind("-")), "\n".join(kind("+")), sources.split() or [path], kind("?")[0])


def mutated(bug):
    text = read(bug.path)
    if text.count(bug.before) != 1:
        sys.exit(f"{bug.name}: '{bug.before}' stands {text.count(bug.before)} times in {bug.path}, expected once")
    return text.replace(bug.before, bug.after)


class Build:
    """Compile commands and objects of a build."""

    def __init__(self, folder, side):
        self.folder, self.side = os.path.abspath(folder), side
        commands = json.loads(subprocess.run(["ninja", "-C", self.folder, "-t", "compdb"], check=True, capture_output=True, text=True).stdout)
        self.commands = {}
        for command in commands:
            path = os.path.relpath(command["file"], ROOT)
            if f"/{side.target}.dir/" in command["output"]:
                self.commands[path] = command
            elif not re.search(r"kernels_k(Avx2|Avx512)\.dir|CMakeFiles/(?!libtrain)\w+\.dir", command["output"]):
                self.commands.setdefault(path, command)

    def object(self, source):
        return os.path.join(self.folder, self.commands[source]["output"])

    def test_objects(self):
        return [self.object(path) for path, c in self.commands.items() if f"/{self.side.target}.dir/" in c["output"]]

    def libraries(self):
        """What the program is linked with."""
        program = self.side.program
        text = subprocess.run(["ninja", "-C", self.folder, "-t", "commands", "-s", program], check=True, capture_output=True, text=True).stdout
        words = text.split(f"-o {program}", 1)[1].split("&&")[0].split()
        return [word for word in words if not word.endswith(".o")]

    def compile(self, source, overlay, output):
        """With the include path `overlay` before all others, the source from there if it is there, and optimized less, which is quicker."""
        command = self.commands[source]
        words = re.sub(r"-MD -MT \S+ -MF \S+", "", command["command"]).replace("-Werror", "").replace("-O3", "-O1").replace(command["output"], output)
        words = words.replace(" -I", f" -I{overlay} -I", 1)
        if os.path.exists(os.path.join(overlay, source)):
            words = words.replace(command["file"], os.path.join(overlay, source)) + f" -I{os.path.dirname(command['file'])}"
        done = subprocess.run(words, shell=True, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{source} does not compile:\n{done.stderr[:2000]}")

    def link(self, objects, output):
        compiler = self.commands["tests/main.cpp"]["command"].split()
        compiler = next(word for word in compiler if not word.endswith("ccache"))
        subprocess.run([compiler, "-rdynamic", *objects, "-o", output, *self.libraries()], cwd=self.folder, check=True)


def first_failure(program, tests):
    """The name of the first test case (and section) that fails, or None."""
    environment = dict(os.environ, LIBTRAIN_ISA="baseline", OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive")
    try:
        done = subprocess.run([program, tests, "--abort", "-r", "xml"], env=environment, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return "a test that did not end"
    if done.returncode == 0:
        return None
    if done.returncode in (126, 127):  # of the loader
        sys.exit(f"{program} cannot be run:\n{done.stderr}")
    try:
        tree = xml.etree.ElementTree.fromstring(done.stdout)
    except xml.etree.ElementTree.ParseError:
        return f"a crash (status {done.returncode})"
    for case in tree.iter("TestCase"):
        result = case.find("OverallResult")
        if result is not None and result.get("success") == "false":
            failed = [s.get("name") for s in case.iter("Section") if s.find("OverallResults").get("failures") != "0"]
            return " / ".join([case.get("name"), *failed[-1:]])
    sys.exit(f"no test was run by '{tests}': {done.stdout[:500]}")


def try_bug(build, bug):
    with tempfile.TemporaryDirectory() as folder:
        overlay = os.path.join(folder, "overlay")
        target = os.path.join(overlay, bug.path)
        os.makedirs(os.path.dirname(target))
        with open(target, "w", encoding="utf-8") as file:
            file.write(mutated(bug))
        objects = []
        for i, source in enumerate(bug.sources):
            objects.append(os.path.join(folder, f"{i}.o"))
            build.compile(source, overlay, objects[-1])
        if bug.path.startswith("libtrain/") and bug.path.endswith(".h"):  # other tests hold the inline functions as they were
            rest = [build.object(f"tests/{name}") for name in HELPERS if f"tests/{name}" not in bug.sources]
        else:
            rest = build.test_objects()
        program = os.path.join(folder, "tests")
        build.link(objects + rest, program)
        return first_failure(program, bug.tests)


def main():
    arguments = sys.argv[1:]
    if not os.path.exists(os.path.join(arguments[0], "build.ninja")):
        print("needs a build with Ninja")
        sys.exit(77)
    side = DEVICE if "--device" in arguments else CPU
    arguments = [argument for argument in arguments if argument != "--device"]
    bugs = list(parse_bugs(read(side.bugs)))
    for bug in bugs:
        mutated(bug)  # the sources move on: each place must still be there
    if "--sample" in arguments:
        bugs = [bug for name in side.sample for bug in bugs if bug.name == name]
        if len(bugs) != len(side.sample):
            sys.exit(f"{side.bugs} has not all of {side.sample}")
    elif arguments[1:]:
        bugs = [bug for bug in bugs if any(word in bug.name for word in arguments[1:])]
    build, missed = Build(arguments[0], side), []
    for bug in bugs:
        found = try_bug(build, bug)
        print(f"{bug.name}: {found or 'FOUND BY NOTHING'}", flush=True)
        if not found:
            missed.append(bug.name)
    print(f"{len(bugs) - len(missed)} of {len(bugs)} planted bugs found")
    sys.exit(1 if missed or not bugs else 0)


main()
