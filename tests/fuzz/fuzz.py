"""Fuzzes what reads files of strangers: fuzz.py BUILD COMMAND

    build                              compiles the targets with clang's libFuzzer, AddressSanitizer and UBSan; nothing if they are up to date
    run TARGET [--seconds S]           the stored corpus, then mutants of it for S seconds, with a fixed seed
    planted                            plants a bug in a copy of a source for each target, which must report it
    soak --minutes N                   every target in turn, N minutes in all; what is found stays in BUILD for the next soak
    keep                               adds inputs that reach what only soaks have reached to the stored corpus, a few of every size

BUILD is a build folder of libtrain with its tests; clang compiles only what is fuzzed, the rest comes from the library of that build. Everything is
printed one line a target: "fuzz TARGET executions N seconds S crashes N slowest_ms T peak_bytes N". The exit status is 1 when there was a crash: an
error of a sanitizer, an exception that is no libtrain::Error, a leak, more than 100 ms of processor time for an input, more memory than twice its
size and a constant, or what a target itself requires. The input is printed as it goes into the corpus.
"""
import argparse
import ast
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SANITIZE = "address,undefined"
FLAGS = ["-std=c++20", "-O2", "-g", "-fno-omit-frame-pointer", f"-fsanitize=fuzzer-no-link,{SANITIZE}",
         "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror"]
LIMITS = ["-timeout=5", "-rss_limit_mb=1024", "-malloc_limit_mb=256", "-max_len=8192", "-detect_leaks=1", "-print_final_stats=1"]
LONGEST_KEPT, MOST_KEPT = 2048, 16384  # bytes of an input, bytes of a target
EVERY_TARGET = ["libtrain/error.cpp", "libtrain/utf8.cpp", "tests/fuzz/target.cpp", "tests/fuzz/mutate.cpp"]
READERS = ["libtrain/io/safetensors.cpp", "libtrain/io/json.cpp", "tests/fuzz/safetensors_mutate.cpp"]
EXAMPLE = ["examples/seq2seq/options.cpp"]
# What is compiled for each target beside EVERY_TARGET and the target itself.
TARGETS = {
    "safetensors": READERS,
    "checkpoint": [*READERS, *(f"libtrain/{name}.cpp" for name in (
        "checkpoint", "optimizer_state", "tensor_file", "io/file", "io/hash", "io/seal", "io/manifest", "io/checkpoint_folder"))],
    "vocabulary": ["libtrain/data/vocabulary.cpp", "examples/seq2seq/trained_model.cpp", *EXAMPLE],
    "text": ["libtrain/data/vocabulary.cpp", "libtrain/data/pairs.cpp", "examples/seq2seq/cmudict.cpp"],
    "command_line": ["examples/seq2seq/command_line.cpp", "examples/seq2seq/exit_status.cpp", *EXAMPLE],
}
# Bugs, at least one for each target: target, source, what stands there once, what is planted, and how the report must read.
LENGTH = "  if (length > kMaxHeader) refuse("
PLANTS = [
    ("safetensors", "libtrain/io/safetensors.cpp", "at != data)", "at > data + 64)", "heap-buffer-overflow"),
    ("safetensors", "libtrain/io/safetensors.cpp", LENGTH, "  const std::string room(std::min(length, kMaxHeader), ' ');\n" + LENGTH, "bytes of memory"),
    ("safetensors", "libtrain/io/safetensors.cpp", LENGTH, "  for (volatile uint64_t i = 0; i < 9 * std::min(length, kMaxHeader);) i = i + 1;\n" + LENGTH, "took .* ms|timeout"),
    ("checkpoint", "libtrain/checkpoint.cpp", 'if (!manifest.at("program").is_object())', "if (false)", "a program that is no object"),
    ("vocabulary", "libtrain/utf8.cpp", "if (bytes == 0 || at + bytes > text.size())", "if (bytes == 0)", "heap-buffer-overflow"),
    ("vocabulary", "libtrain/data/vocabulary.cpp", "split_words(std::string_view text) {\n  std::vector<std::string> tokens;",
     "split_words(std::string_view text) {\n  auto& tokens = *new std::vector<std::string>;", "memory leaks"),
    ("text", "libtrain/data/pairs.cpp", "if (number == 1 && line.starts_with(kByteOrderMark))", "if (number == 1)", "overflow"),
    ("command_line", "examples/seq2seq/options.cpp", '{"heads", o.heads},', "", "division by zero"),
]
PLANTED_SECONDS = 60  # within which each must be found


class Build:
    def __init__(self, folder):
        with open(os.path.join(folder, "tests", "fuzz.json"), encoding="utf-8") as file:
            self.settings = json.load(file)
        self.folder = os.path.join(os.path.abspath(folder), "tests", "fuzz")

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def compile(self, source, output, overlay=None):
        """The source from the folder `overlay`, if it is given."""
        os.makedirs(os.path.dirname(output), exist_ok=True)
        launcher = [self.settings["launcher"]] if self.settings["launcher"] else []
        includes = [f"-I{ROOT}", f"-I{ROOT}/tests", *(f"-idirafter{folder}" for folder in self.settings["includes"])]
        subprocess.run([*launcher, self.settings["compiler"], *FLAGS, f'-DSEQ2SEQ_DATA_DIR="{ROOT}/examples/seq2seq/data"', *includes, "-c",
                        os.path.join(overlay or ROOT, source), "-o", output], check=True)

    def object(self, source):
        return self.path("objects", source + ".o")

    def link(self, target, output, replaced=None):
        """`replaced`: {source: object} instead of the usual ones."""
        libraries = [name if "/" in name else "-l" + name for name in self.settings["libraries"]]
        objects = [(replaced or {}).get(source, self.object(source)) for source in sources_of(target)]
        subprocess.run([self.settings["compiler"], f"-fsanitize=fuzzer,{SANITIZE}", *objects, *libraries, "-o", output], check=True)

    def state(self):
        """Of everything that is compiled."""
        digest = hashlib.sha256(json.dumps([self.settings, FLAGS, TARGETS]).encode())
        for folder in ("libtrain", "kernels", "examples/seq2seq", "tests/fuzz"):
            for place, folders, names in os.walk(os.path.join(ROOT, folder)):
                folders.sort()
                for name in sorted(names):
                    if name.endswith((".h", ".cpp")):
                        with open(os.path.join(place, name), "rb") as file:
                            digest.update(name.encode() + file.read())
        return digest.hexdigest()

    def make(self):
        stamp = self.path("built")
        state = self.state()
        if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == state:
            return
        sources = sorted({source for target in TARGETS for source in sources_of(target)})
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda source: self.compile(source, self.object(source)), sources))
        for target in TARGETS:
            self.link(target, self.path(target))
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(state)


def sources_of(target):
    return [*EVERY_TARGET, *TARGETS[target], f"tests/fuzz/{target}_target.cpp"]


def corpus_file(target):
    return os.path.join(HERE, "corpus", target + ".txt")


def stored_inputs(target):
    """One Python bytes literal a line."""
    with open(corpus_file(target), encoding="ascii") as file:
        return [ast.literal_eval(line) for line in file if line.startswith("b")]


def spill(folder, inputs):
    os.makedirs(folder, exist_ok=True)
    for data in inputs:
        with open(os.path.join(folder, hashlib.sha1(data).hexdigest()), "wb") as file:
            file.write(data)


class Outcome:
    """What a target's run printed."""

    def __init__(self, target, done, seconds, crashes):
        number = lambda pattern: float((re.findall(pattern, done.stderr) or ["0"])[-1])
        self.executions = int(number(r"stat::number_of_executed_units: (\d+)") or number(r"#(\d+)\s+(?:NEW|REDUCE|pulse|DONE|INITED)"))
        self.crashed = done.returncode != 0
        self.crashes = crashes
        self.report = done.stderr[-6000:]
        self.reason = (re.findall(r"FOUND: .*|ERROR: .*|runtime error: .*", done.stderr) or ["status " + str(done.returncode)])[0]
        self.line = (f"fuzz {target} executions {self.executions} seconds {seconds:.0f} crashes {len(crashes) or int(self.crashed)} "
                     f"slowest_ms {number(r'SUMMARY slowest_ms ([0-9.]+)'):.2f} peak_bytes {number(r'SUMMARY .*peak_bytes ([0-9]+)'):.0f}")


def run_program(program, target, seconds, seed, corpus):
    """Mutates the stored corpus and what is in the folder `corpus`, where new inputs go."""
    with tempfile.TemporaryDirectory() as place:
        spill(place + "/stored", stored_inputs(target))
        os.makedirs(place + "/found")
        environment = dict(os.environ, TMPDIR=place, OMP_NUM_THREADS="1", ASAN_OPTIONS="detect_stack_use_after_return=1:allocator_may_return_null=0")
        command = [program, *LIMITS, f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", f"-artifact_prefix={place}/found/", corpus, place + "/stored"]
        begin = time.time()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
        crashes = []
        for name in sorted(os.listdir(place + "/found")):
            with open(os.path.join(place, "found", name), "rb") as file:
                crashes.append(file.read())
        return Outcome(target, done, time.time() - begin, crashes)


def report(outcome):
    print(outcome.line, flush=True)
    if outcome.crashed:
        print(outcome.report)
        for data in outcome.crashes:
            print("input:", ascii(data))
    return outcome.crashed


def run(build, target, seconds):
    with tempfile.TemporaryDirectory() as corpus:
        return report(run_program(build.path(target), target, seconds, 1, corpus))


def soak(build, minutes):
    crashed, executions = False, 0
    for target in TARGETS:
        corpus = build.path("corpus", target)
        os.makedirs(corpus, exist_ok=True)
        outcome = run_program(build.path(target), target, 60 * minutes / len(TARGETS), int(time.time()), corpus)
        executions += outcome.executions
        crashed |= report(outcome)
    print(f"fuzz total executions {executions}")
    return crashed


def find_planted(build, target, source, before, after, expected):
    with open(os.path.join(ROOT, source), encoding="utf-8") as file:
        text = file.read()
    if text.count(before) != 1:
        sys.exit(f"planted for {target}: '{before}' stands {text.count(before)} times in {source}, expected once")
    with tempfile.TemporaryDirectory() as place:
        os.makedirs(os.path.dirname(os.path.join(place, source)))
        with open(os.path.join(place, source), "w", encoding="utf-8") as file:
            file.write(text.replace(before, after))
        build.compile(source, place + "/planted.o", overlay=place)
        build.link(target, place + "/planted", {source: place + "/planted.o"})
        os.makedirs(place + "/corpus")
        outcome = run_program(place + "/planted", target, PLANTED_SECONDS, 1, place + "/corpus")
    found = outcome.crashed and outcome.crashes and re.search(expected, outcome.reason)
    print(f"planted in {source}, {expected}: " + ("found" if found else "NOT FOUND") +
          f" after {outcome.executions} executions: {outcome.reason if outcome.crashed else 'nothing'}", flush=True)
    return bool(found)


def keep(build):
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as place:
            spill(place + "/stored", stored_inputs(target))
            os.makedirs(place + "/merged")
            subprocess.run([build.path(target), *LIMITS, "-merge=1", place + "/merged", place + "/stored", build.path("corpus", target)],
                           check=True, capture_output=True, env=dict(os.environ, TMPDIR=place))
            merged = []
            for name in os.listdir(place + "/merged"):
                with open(os.path.join(place, "merged", name), "rb") as file:
                    merged.append(file.read())
        stored = stored_inputs(target)
        new = sorted((data for data in merged if len(data) <= LONGEST_KEPT and data not in stored), key=lambda data: (len(data), data))
        step = 1  # of all sizes: the smallest alone would be those that are refused at once
        while sum(map(len, stored + new[::step])) > MOST_KEPT and step < len(new):
            step += 1
        kept = stored + new[::step]
        with open(corpus_file(target), "w", encoding="ascii") as file:
            file.writelines(ascii(data) + "\n" for data in kept)
        print(f"corpus {target} {len(kept)} of {len(merged)} inputs, {sum(map(len, kept))} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    commands.add_parser("planted").add_argument("targets", nargs="*", default=[])
    commands.add_parser("keep")
    one = commands.add_parser("run")
    one.add_argument("target", choices=TARGETS)
    one.add_argument("--seconds", type=float, default=60)
    commands.add_parser("soak").add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    build = Build(arguments.build)
    build.make()
    if arguments.command == "run":
        sys.exit(run(build, arguments.target, arguments.seconds))
    if arguments.command == "soak":
        sys.exit(soak(build, arguments.minutes))
    if arguments.command == "planted":
        sys.exit(not all([find_planted(build, *plant) for plant in PLANTS if plant[0] in (arguments.targets or TARGETS)]))
    if arguments.command == "keep":
        keep(build)


main()
