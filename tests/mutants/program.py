"""Builds a test program in which a run-time variable picks the mutant, from the objects and commands of a build."""
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import generate

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def output_of(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


class Build:
    """Commands, dependencies and objects of a Ninja build."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        commands = json.loads(output_of("ninja", "-C", self.folder, "-t", "compdb"))
        self.commands = {c["output"]: c for c in commands if c["output"].endswith(".o")}
        self.depends = {}
        for line in output_of("ninja", "-C", self.folder, "-t", "deps").splitlines():
            if line and not line.startswith(" "):
                at = self.depends.setdefault(line.split(":")[0], set())
            elif line:
                at.add(os.path.relpath(os.path.join(self.folder, line.strip()), ROOT))

    def affected(self, targets, paths):
        """Objects of the targets that hold code from one of the files, or that the build lacks."""
        paths = set(paths)
        mine = [o for o in self.commands if re.search(rf"/({'|'.join(targets)})\.dir/", "/" + o)]
        return [o for o in mine if o not in self.depends or self.depends[o] & paths]

    def compile(self, command, source, output, overlay, level="-O1"):
        """Optimized less, for that is quicker, and with the files of `overlay` before all others."""
        words = re.sub(r"-MD -MT \S+ -MF \S+", "", command["command"]).replace("-Werror", "-w")
        words = re.sub(r"(?<= )-O[123](?= )", level, words).replace(command["output"], output).replace(" -I", f" -I{overlay} -I", 1)
        words = words.replace(f"-c {command['file']}", f"-I{os.path.dirname(command['file'])} -c {source}")
        done = subprocess.run(words, shell=True, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{source} does not compile:\n{done.stderr[:3000]}")

    def link(self, target, replaced, extra, output):
        """The target's own command, with some of its objects replaced and more added before its libraries."""
        text = output_of("ninja", "-C", self.folder, "-t", "commands", "-s", target)
        command = max((part for part in text.split("&&") if f"-o {target}" in part), key=len)
        words = shlex.split(command)
        words[words.index("-o") + 1] = output
        words = [replaced.pop(word, word) for word in words]
        at = words.index("-o")
        output_of(*words[:at], *replaced.values(), *extra, *words[at:], cwd=self.folder)


class Program:
    """One side: the program that tests, and the mutants in it."""

    def __init__(self, build, folder, jobs):
        self.build, self.folder, self.jobs = Build(build), os.path.abspath(folder), jobs
        self.overlay, self.mutants = os.path.join(self.folder, "overlay"), []

    def generate(self, paths, wanted):
        number = 1
        for path in paths:
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                text, mutants, number = generate.mutate(path, file.read(), number, wanted(path))
            if mutants:
                target = os.path.join(self.overlay, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "w", encoding="utf-8") as file:
                    file.write(text)
                self.mutants += mutants
        assert number < 65536
        self.paths = sorted({m.path for m in self.mutants})

    def compile_all(self, targets):
        """{object of the build: its replacement}"""
        replaced = {}
        os.makedirs(os.path.join(self.folder, "objects"), exist_ok=True)

        def one(output):
            command = self.build.commands[output]
            path = os.path.relpath(command["file"], ROOT)
            copy = os.path.join(self.overlay, path)
            replaced[output] = os.path.join(self.folder, "objects", output.replace("/", "_"))
            self.build.compile(command, copy if os.path.exists(copy) else command["file"], replaced[output], self.overlay)

        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(one, self.build.affected(targets, self.paths)))
        return replaced

    def helper(self, name, like):
        """An object of a source of this folder, compiled as the source `like` is."""
        command = next(c for c in self.build.commands.values() if c["file"].endswith(like))
        output = os.path.join(self.folder, name + ".o")
        self.build.compile(command, os.path.join(HERE, name), output, self.overlay)
        return output

    def make_cpu(self, made):
        """Kernels for AVX2, which have ways of their own besides those of the baseline."""
        self.environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "LIBTRAIN_ISA": "avx2"}
        self.path = os.path.join(self.folder, "tests")
        if made:
            return
        replaced = self.compile_all(["libtrain", "libtrain_kernels_kAvx2", "libtrain_tests"])
        helpers = [self.helper("runtime.cpp", "tests/main.cpp"), self.helper("listener.cpp", "tests/main.cpp")]
        self.build.link("tests/libtrain_tests", replaced, helpers, self.path)

    def make_executed(self, made):
        """The plain kernels, a library of their own, and the host code that is mutated here, too."""
        library, folder = "executed/plain/libtrain_cuda_kernels.so", os.path.join(self.folder, "plain")
        self.environment = {"OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": f"{folder}:{self.build.folder}/executed/plain"}
        self.path = os.path.join(self.folder, "tests")
        if made:
            return
        os.makedirs(folder, exist_ok=True)
        mutated = os.path.join(folder, os.path.basename(library))
        replaced = self.compile_all(["libtrain_cuda_kernels", "libtrain"])
        kernels = {o: new for o, new in replaced.items() if "libtrain_cuda_kernels.dir" in o}
        host = {o: new for o, new in replaced.items() if o not in kernels}
        self.build.link(library, kernels, [self.helper("runtime.cpp", "kernels/cuda/fill.cu")], mutated)
        self.build.link("tests/device/libtrain_device_tests", host | {library: mutated}, [self.helper("listener.cpp", "tests/main.cpp")], self.path)
