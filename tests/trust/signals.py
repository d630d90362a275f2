#!/usr/bin/env python3
"""Sends signals to the real program while it trains: signals.py SEQ2SEQ [--signals N] [--seed S] [--jobs J]

SIGTERM, SIGINT, SIGHUP and SIGUSR1 in turn, each to a run of its own, at an instant drawn from the whole time that a run takes, its start and its end
included. The first three must end it within five seconds with status 143, 130 or 129, the last line of stderr must be a command that goes on, and that
command, pasted, must end with the weights and moments of a run that nobody disturbed. SIGUSR1 must leave the run to its end, with the same bits.
A signal that comes before the program holds its handlers, while it has said nothing yet, ends it as it ends any program: then nothing was begun.

Then the same with two planted faults that must be noticed: a run that gets SIGKILL, and a command that ends early.
"""
import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

LIMIT = 5.0  # seconds from a signal to the end
STOPS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
LAST = "step-00000160"
OPTIONS = ["--size", "16", "--feed-forward", "16", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1", "--batch-pairs", "8",
           "--dropout", "0.1", "--accumulate", "2", "--warmup", "5", "--max-length", "16", "--epochs", "20", "--checkpoint-every", "10",
           "--keep", "2", "--log-every", "1"]


class Fault(Exception):
    pass


class Field:
    """The program, its data, and how long and to what bits a calm run comes."""

    def __init__(self, program, place):
        self.program, self.place = program, place
        pairs = [f"{a}{b}{c}\t{c}{b}{a}\n" for a in "abcd" for b in "abcd" for c in "abcd"]
        with open(place + "/pairs.tsv", "w", encoding="utf-8") as file:
            file.write("".join(pairs))
        self.seconds = min(self.calm_run(f"{place}/calm-{i}") for i in range(3))  # other programs may take the processor

    def calm_run(self, folder):
        os.mkdir(folder)
        start = time.monotonic()
        process = self.start(folder)
        _, err = process.communicate(timeout=60)
        seconds = time.monotonic() - start
        if process.returncode:
            raise SystemExit(f"FAILED: a calm run: {err}")
        self.bits, self.saves = self.bits_of(folder), err.count("\nsaved ")
        return seconds

    def start(self, folder, *options):
        command = [self.program, "train", "--train", self.place + "/pairs.tsv", "--test", self.place + "/pairs.tsv", "--out", "run", *OPTIONS, *options]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def bits_of(self, folder):
        digest = hashlib.sha256()
        for name in ("weights.safetensors", "optimizer.safetensors"):
            path = f"{folder}/run/{LAST}/{name}"
            if not os.path.exists(path):
                raise Fault(f"it did not come to its end: {os.listdir(folder + '/run')}")
            with open(path, "rb") as file:
                digest.update(file.read())
        return digest.hexdigest()


def go_on(folder, err, edit):
    """Runs the command in the last line of stderr, as someone who pastes it."""
    command = edit(err.strip().splitlines()[-1].strip())
    if " train " not in command:
        raise Fault(f"the last line is no command: {err}")
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Fault(f"the command to go on failed: {command}: {done.stderr}")
    return "resuming from" in done.stderr


def check_leftovers(folder):
    names = [name for name in os.listdir(folder + "/run") if name != "latest" and not name[5:].isdigit()]
    if names:
        raise Fault(f"left behind: {names}")


def disturb(field, number, sent, delay, edit=lambda command: command):
    """What came of one signal, in a word. Throws Fault."""
    folder = f"{field.place}/{number}"
    os.mkdir(folder)
    process = field.start(folder)
    time.sleep(delay)
    process.send_signal(sent)
    when = time.monotonic()
    out, err = process.communicate(timeout=60)
    took = time.monotonic() - when
    status = process.returncode
    if status == 0 and sent == signal.SIGUSR1:
        kind = "saved and went on" if err.count("\nsaved ") > field.saves else "went on, saved already"
    elif status in (0, -sent) and out.count("\n") > 1:  # its results are complete; it was on its way out
        kind = "was over"
    elif status == -sent and not err and not out:  # it had not begun
        shutil.rmtree(folder)
        return "too early"
    elif sent not in STOPS or status != STOPS[sent]:
        raise Fault(f"{signal.Signals(sent).name}: status {status}: {err}")
    else:
        if took > LIMIT:
            raise Fault(f"{signal.Signals(sent).name}: {took:.1f} s until it ended")
        if "stopped and saved. Go on with:" in err and not os.path.exists(folder + "/run/latest"):
            raise Fault(f"it says that it has saved, and has not: {err}")
        kind = "saved" if go_on(folder, err, edit) else "not begun"
    if field.bits_of(folder) != field.bits:
        raise Fault(f"{signal.Signals(sent).name} after {delay:.3f} s, {kind}: other bits")
    check_leftovers(folder)
    shutil.rmtree(folder)
    return kind


def campaign(field, signals, count, rng, jobs):
    """Outcomes, and faults."""
    plan = [(f"signal-{i}", signals[i % len(signals)], rng.uniform(0, 1.05 * field.seconds)) for i in range(count)]

    def one(work):
        try:
            return disturb(field, *work), None
        except Fault as fault:
            return "FAULT", str(fault)

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(one, plan))
    return Counter(kind for kind, _ in results), [fault for _, fault in results if fault]


def notices(field, name, sent, rng, edit=lambda command: command):
    """How many of ten planted faults it takes until one is noticed: a signal may come when a run is over. 0: none was."""
    for i in range(10):
        try:
            disturb(field, f"{name}-{i}", sent, rng.uniform(0.3, 0.6) * field.seconds, edit)
        except Fault:
            return i + 1
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--signals", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and so would the program's be
    place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    rng = random.Random(options.seed)
    try:
        field = Field(os.path.realpath(options.program), place)
        kinds, faults = campaign(field, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1], options.signals, rng, options.jobs)
        print(f"{options.signals} signals to runs of {field.seconds:.2f} s: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
        print("\n".join(faults[:5]))

        killed = notices(field, "killed", signal.SIGKILL, rng)
        other = notices(field, "other", signal.SIGTERM, rng, lambda command: command + " --epochs 19")
        told = lambda attempt: f"noticed at attempt {attempt}" if attempt else "NOT NOTICED"
        print(f"planted: a kill without saving, {told(killed)}; a command that ends early, {told(other)}")
        return 0 if not faults and kinds["saved"] and kinds["saved and went on"] and killed and other else 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
