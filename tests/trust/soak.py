"""Tries to break each promise of docs/reliability.md for its share of the time: soak.py BUILD [--minutes N] [--seed S] [--only WORD]

BUILD holds the folders cpu and executed of tests/run.sh. A harness is run again and again, each time with another seed, until its share is used
up; what it counted is added up. Prints one line for each, and at the end the table. The exit status is 1 when a promise did not hold.
"""
import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# What is promised; the command, {seed} and {minutes} filled in; which numbers of its output are added up, by what they count; its share of
# the time, 0 for what is exhaustive and run once.
Harness = collections.namedtuple("Harness", "promise command counts share")


def harnesses(build):
    cpu, executed = build / "cpu", build / "executed"
    tests, fuzz = cpu / "tests", HERE.parent / "fuzz"
    once = lambda promise, program, names, counts: Harness(promise, [program, names], counts, 0)
    passed = {"assertions": r"All tests passed \((\d+) assertions"}
    return [
        once("after a power cut a checkpoint loads, whatever POSIX allows to be on the disk", tests / "libtrain_tests", "power cut*",
             {"states": r"(\d+) states", **passed}),
        once("every bit that changes in a checkpoint is found", tests / "libtrain_tests", "*bit*", passed),
        once("every file call that fails leaves the checkpoint before", tests / "libtrain_tests", "[io],[checkpoint]", passed),
        once("resuming is exact from every step", tests / "libtrain_tests", "*resum*", passed),
        once("likewise on the executed CUDA device", executed / "tests/device/libtrain_device_tests", "*resum*", passed),
        once("no number that is not finite reaches a weight", tests / "libtrain_tests", "[nonfinite]", passed),
        once("memory that runs out leaves nothing behind, tensors", tests / "libtrain_tests", "[memory]", passed),
        Harness("likewise, every new", [tests / "libtrain_out_of_memory"], {"allocations": r"(\d+) allocations failed"}, 0),
        Harness("a run that is killed ends with the same bits", [sys.executable, HERE / "kill.py", tests / "libtrain_trainee", "--kills", "200", "--seed", "{seed}"],
                {"kills": r"(\d+) kills"}, 0.3),
        Harness("a signal saves, and going on ends with the same bits",
                [sys.executable, HERE / "signals.py", cpu / "examples/seq2seq/seq2seq", "--signals", "48", "--seed", "{seed}"],
                {"signals": r"^(\d+) signals"}, 0.15),
        Harness("a bad batch is refused with row, position and value, and the process trains on",
                [tests / "libtrain_bad_batches", "100000", "{seed}"], {"batches": r"^(\d+) bad batches"}, 0.1),
        Harness("no file hurts the process", [sys.executable, fuzz / "fuzz.py", cpu, "soak", "--minutes", "{minutes}"],
                {"executions": r"fuzz total executions (\d+)"}, 0.35),
        Harness("safetensors: the verdict of the reference implementation",
                [sys.executable, fuzz / "compare_safetensors.py", tests / "libtrain_safetensors_verdicts", tests / "venv-safetensors", "--mutants", "100000"],
                {"files": r"^(\d+) mutants"}, 0),
    ]


def run_once(harness, seed, minutes, environment):
    """Exit status, counts and output."""
    command = [str(part).format(seed=seed, minutes=f"{minutes:.2f}") for part in harness.command]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    counts = {name: sum(map(int, re.findall(pattern, done.stdout, re.MULTILINE))) for name, pattern in harness.counts.items()}
    return done.returncode, counts, done.stdout


def soak(harness, first_seed, minutes, environment):
    """Whether the promise held, and the line of the table."""
    counts, runs, began = collections.Counter(), 0, time.monotonic()
    left = lambda: harness.share * minutes - (time.monotonic() - began) / 60
    while runs == 0 or left() > 0:
        status, counted, output = run_once(harness, first_seed + runs, max(left(), 1 / 60), environment)
        counts.update(counted)
        runs += 1
        if status == 77:
            return True, "skipped: " + output.strip().splitlines()[-1][:100]
        if status != 0 or not all(counted.values()):  # what counted nothing has tried nothing
            print(output[-4000:])
            return False, f"DOES NOT HOLD: status {status} with seed {first_seed + runs - 1}"
    figures = ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "all"
    return True, f"{figures} in {time.monotonic() - began:.0f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=30, help="in all, beside what is exhaustive (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only promises that contain this")
    args = parser.parse_args()
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    chosen = [harness for harness in harnesses(args.build.resolve()) if args.only in harness.promise]
    if not chosen:
        parser.error(f"no promise contains '{args.only}'")
    table, held = [], True
    for harness in chosen:
        print(f"{harness.promise} …", flush=True)
        holds, figure = soak(harness, args.seed, args.minutes, environment)
        held = held and holds
        table.append((harness.promise, figure))
        print(f"  {figure}", flush=True)
    width = max(len(promise) for promise, _ in table)
    print("\n" + "\n".join(f"{promise:<{width}}  {figure}" for promise, figure in table))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
