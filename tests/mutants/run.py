"""Mutation testing of the library: every mutant must be found by a test, or be explained in survivors.txt.

    python3 run.py --cpu BUILD --executed BUILD [--folder F] [--jobs N] [--only TEXT] [--survivors] [--seconds S] [--again] [--sample]

BUILD are Ninja builds with LIBTRAIN_CUDA=OFF and =EXECUTED, complete. All mutants of a side are compiled into one program (generate.py,
mutant.h), and an environment variable picks one. The program is run once without: that must be green, and says which test case, or section of
one, reaches which mutant. Then each mutant meets the tests that reach it, quick and special ones first, until one fails, crashes or does not end; what
outlives them survived.
--seconds: of tests, as they run without a mutant, that a mutant has to outlive. --again: with the program and measurement that are in F.
--survivors: only those that survived the last run in F. --only: those whose name has TEXT in it. --sample: the fixed few that CTest runs.
Exit status: 1 if a mutant survives unexplained or survivors.txt explains one that does not, 77 if a build is none by Ninja.
"""
import argparse
import collections
import glob
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import generate
from program import HERE, ROOT, Program

# Of which files how many percent of the mutants, the first pattern that fits; the total is chosen, the single mutant is by its hash.
SHARES = {
    "cpu": [(r"kernels/cpu/(adam|sgd|clip\w+|token_loss|moving_average|finish_update|update|cross_entropy)\.", 20),
            (r"kernels/cpu/(math|blas)\.h", 1), (r"kernels/cpu/", 4.5),
            (r"kernels/(philox|dtype|view)\.h", 5), (r"kernels/(pointwise|broadcast|moving_average|clip_by_norm|step_state)\.h", 8),
            (r"libtrain/ops/", 12), (r"libtrain/optim/", 50), (r"libtrain/nn/deco", 50), (r"libtrain/nn/", 12), (r"libtrain/(train_loop|parameters|parameters_optimizer|tape|packing)\.cpp", 12)],
    "executed": [(r"kernels/cuda/(adam|sgd|clip\w+|token_loss|moving_average|finish_update|update|cross_entropy)\.", 10),
                 (r"kernels/cuda/", 4.5), (r"libtrain/(train_loop|step_mailbox)\.cpp", 12)],
}
# The tests that can find a mutant. Without those that ask for 20 steps of Adam as PyTorch takes them, to the last digits of f32 (kernels that are
# optimized less round otherwise), and for instrumented kernels.
TESTS = {"cpu": "~oracle: logits*", "executed": "~[traffic]"}
# The files that CTest's sample mutates, and the tests it then runs.
SAMPLE = {
    "cpu": (["kernels/cpu/adam.cpp", "kernels/cpu/clip_by_norm.cpp", "kernels/cpu/rms_norm.cpp", "kernels/cpu/token_loss.cpp"],
            "adam*,clip*,optim*,loss*,accumulation*,table: gradients*,table: forward*"),
    "executed": (["kernels/cuda/adam.cu", "kernels/cuda/sgd.cu", "kernels/cuda/token_loss.cu"], "device:*,orders: clip*"),
}
SURVIVED = ("survived", "unreached")
Unit = collections.namedtuple("Unit", "seconds case section")


def files_of(side):
    folders = ("kernels", "kernels/cpu", "kernels/cuda", "libtrain", "libtrain/ops", "libtrain/optim", "libtrain/nn")
    everything = sorted(os.path.relpath(path, ROOT) for folder in folders for path in glob.glob(f"{ROOT}/{folder}/*.*"))
    return [path for path in everything if share_of(side, path)]


def share_of(side, path):
    return next((percent for pattern, percent in SHARES[side] if re.match(pattern, path)), 0)


# ---- Running tests ------------------------------------------------------------------------------------------------------


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))  # a mutant may write without end,
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # and a test asks for a larger file: an error, not death
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(program, arguments, mutant, timeout, **more):
    """None if the tests are green, or how they are not."""
    environment = dict(os.environ, **program.environment, **more)
    if mutant is not None:
        environment["LIBTRAIN_MUTANT"] = str(mutant)
    try:
        done = subprocess.run([program.path, *arguments], env=environment, capture_output=True, timeout=timeout, preexec_fn=limits,
                              cwd=program.folder)
    except subprocess.TimeoutExpired:
        return "timeout"
    if mutant is None and done.returncode:
        print(done.stdout.decode(errors="replace")[-3000:])
    if done.returncode in (126, 127):  # of the loader
        sys.exit(f"{program.path} cannot be run:\n{done.stderr.decode(errors='replace')}")
    if done.returncode == 0:
        if re.search(rb"No test|\b0 assertions", done.stdout):
            sys.exit(f"{arguments} ran no test")
        return None
    return "test" if 0 < done.returncode < 256 and b"assertion" in done.stdout and b"SIG" not in done.stdout else "crash"


def escaped(name):
    return re.sub(r"([\\,\[\]*\"])", r"\\\1", name)


def arguments_of(case, section):
    return [escaped(case), "--abort"] + (["-c", section] if section else [])


def confirm(program, results):
    """A test that fails without a mutant, too, has found nothing: each that found one runs once more without."""
    for unit in sorted({tuple(r["unit"]) for r in results.values() if "unit" in r}):
        if run(program, arguments_of(*unit), None, 600):
            print(f"  {' / '.join(filter(None, unit))}: FAILS WITHOUT A MUTANT, TOO")
            for r in results.values():
                if tuple(r.get("unit", ())) == unit:
                    r["verdict"] = "survived"


def measure(program, tests, again):
    """Which mutants were compiled, and which units of test reach which sites, with nothing mutated."""
    record = os.path.join(program.folder, "reached.txt")
    how = None if again else run(program, tests, None, 3000, LIBTRAIN_MUTANTS_RECORDED=record)
    if how:
        sys.exit(f"{program.path}: without a mutant the tests are not green ({how})")
    with open(record, encoding="utf-8") as file:
        compiled, *lines = file.read().split("\n")
    units, reaching = [], collections.defaultdict(list)
    for line in lines:
        seconds, case, section, sites = line.split("\t")
        units.append(Unit(float(seconds), case, section))
        for site in sites.split():
            reaching[int(site)].append(units[-1])
    return {int(n) for n in compiled.split()}, reaching


class Judge:
    def __init__(self, program, reaching, seconds):
        self.program, self.reaching, self.seconds, self.finders = program, reaching, seconds, collections.defaultdict(collections.Counter)
        self.breadth = collections.Counter(unit for units in reaching.values() for unit in units)  # sites that it reaches
        self.of_case = collections.Counter()
        for unit in {unit for units in reaching.values() for unit in units}:
            self.of_case[unit.case] += unit.seconds

    def units(self, mutant):
        """That reach it: first what found others of its file, then those that are quick and reach little else."""
        finders, total = self.finders[mutant.path], 0
        order = lambda unit: (-min(finders[unit], 3) if unit.seconds < 2 else 0, unit.seconds * self.breadth[unit])
        for unit in sorted(self.reaching[mutant.site], key=order):
            total += unit.seconds
            if total > self.seconds and total > unit.seconds:
                return
            yield unit

    def meetings(self, units):
        """One by one at first; then a case as a whole where most of it is wanted, which saves starts."""
        yield from units[:10]
        by_case = collections.defaultdict(list)
        for unit in units[10:]:
            by_case[unit.case].append(unit)
        for case, sections in by_case.items():
            if len(sections) > 3 and 2 * sum(u.seconds for u in sections) > self.of_case[case]:
                yield Unit(self.of_case[case], case, "")
            else:
                yield from sections

    def verdict(self, mutant):
        units = list(self.units(mutant))
        for unit in self.meetings(units):
            how = run(self.program, arguments_of(unit.case, unit.section), mutant.number, 20 + 20 * unit.seconds)
            if how:
                self.finders[mutant.path][unit] += 1
                return {"verdict": how, "by": " / ".join(filter(None, unit[1:])), "unit": unit[1:]}
        return {"verdict": "survived" if units else "unreached", "by": f"{len(units)} tests"}


# ---- Survivors ----------------------------------------------------------------------------------------------------------


def read_explanations():
    """{key: why}: lines that begin at the margin are keys, indented ones below them explain them all."""
    out, keys, fresh = {}, [], True
    with open(os.path.join(HERE, "survivors.txt"), encoding="utf-8") as file:
        for line in file.read().splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith(" "):
                fresh = True
                for key in keys:
                    out[key] = (out.get(key, "") + " " + line.strip()).strip()
            else:
                keys = [line] if fresh else keys + [line]
                fresh = False
    return out


def load(path):
    """Results of a run, {} if there was none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def merged(*sides):
    """A mutant that is on both sides is killed if it is on either."""
    out = {}
    for results in sides:
        out |= {key: r for key, r in results.items() if key not in out or out[key]["verdict"] in SURVIVED}
    return out


def survivors_of(results):
    return {key for key, r in results.items() if r["verdict"] in SURVIVED}


def summary(results, all_judged, explained):
    survivors = sorted(survivors_of(results))
    unexplained = [key for key in survivors if not explained.get(key)]
    # What writes beyond the end of an array may crash or not.
    stale = [key for key in explained if (results[key]["verdict"] in ("test", "timeout") if key in results else all_judged)]
    for key in unexplained:
        print(f"UNEXPLAINED ({results[key]['verdict']}): {key}")
    for key in stale:
        print(f"EXPLAINED, BUT {results[key]['verdict'] + ' by ' + results[key]['by'] if key in results else 'NO SUCH MUTANT'}: {key}")
    how = collections.Counter(r["verdict"] for r in results.values())
    killed = how["test"] + how["crash"] + how["timeout"]
    print(f"killed by a failing test {how['test']}, by a crash {how['crash']}, by a timeout {how['timeout']}; reached by no test {how['unreached']}")
    print(f"mutants {len(results)} killed {killed} explained {len(survivors) - len(unexplained)} unexplained {len(unexplained)}")
    return not unexplained and not stale


# ---- A run --------------------------------------------------------------------------------------------------------------


def campaign(side, build, options, paths, tests):
    folder = os.path.join(options.folder, side + ("_sample" if options.sample else ""))
    program = Program(build, folder, options.jobs)
    program.generate(paths, lambda path: generate.share(share_of(side, path)))
    start = time.time()
    program.make_cpu(options.again) if side == "cpu" else program.make_executed(options.again)
    built = time.time()
    compiled, reaching = measure(program, tests, options.again)
    mutants = [m for m in program.mutants if m.number in compiled]
    print(f"{side}: {len(mutants)} mutants in {len(program.paths)} files ({len(program.mutants) - len(mutants)} more that are none for their types), "
          f"built in {built - start:.0f} s, measured in {time.time() - built:.0f} s", flush=True)
    if options.only:
        mutants = [m for m in mutants if options.only in m.key]
    results_path = os.path.join(folder, "results.json")
    results = {}
    if options.survivors or options.only:
        current, last = {m.key for m in program.mutants if m.number in compiled}, load(results_path)
        results = {key: r for key, r in last.items() if key in current}
        if options.survivors:
            mutants = [m for m in mutants if m.key not in last or m.key in survivors_of(last)]
    if side == "executed" and not options.sample:  # of host code, which is in both programs
        on_cpu = load(os.path.join(options.folder, "cpu", "results.json"))
        mutants = [m for m in mutants if m.key not in on_cpu or m.key in survivors_of(on_cpu)]
    judge = Judge(program, reaching, options.seconds)
    order = sorted(mutants, key=lambda m: zlib.crc32(m.key.encode()))

    def one(mutant):
        results[mutant.key] = judge.verdict(mutant)
        if results[mutant.key]["verdict"] in SURVIVED:
            print(f"  {results[mutant.key]['verdict']}: {mutant.key}", flush=True)
        if len(results) % 20 == 0:
            print(f"  {len(results)} judged, {time.time() - built:.0f} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, order))
    confirm(program, results)
    results = dict(sorted(results.items()))
    with open(results_path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=0)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu")
    parser.add_argument("--executed")
    parser.add_argument("--folder", default="build/mutants")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--sample", action="store_true")
    options = parser.parse_args()
    results = []
    for side in ("cpu", "executed"):
        build = getattr(options, side)
        if not build:
            continue
        if not os.path.exists(os.path.join(build, "build.ninja")):
            print("needs a build by Ninja")
            sys.exit(77)
        paths, tests = SAMPLE[side] if options.sample else (files_of(side), TESTS[side])
        results.append(campaign(side, build, options, paths, [tests]))
    if not options.sample:  # and what the last run of the other side said
        results = [load(os.path.join(options.folder, side, "results.json")) for side in ("cpu", "executed")]
    results, explained = merged(*results), read_explanations()
    good = summary(results, options.cpu and options.executed and not options.only and not options.sample, explained)
    if options.sample:
        print("Control: the same without explanations, which must be refused")
        good &= bool(survivors_of(results)) and not summary(results, False, {})
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
