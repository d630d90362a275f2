#!/usr/bin/env python3
"""Kills a training run again and again and lets it go on: kill.py TRAINEE [--kills N] [--seed S]

First before each single file operation of the run, then at random instants. After every kill the same command is started again, until the run
is over: its weights and moments must have the bits of a run that nobody disturbed, with nothing done by hand. Then the same with a planted
fault, a resume that forgets its random state, which must be noticed. Exit status 0 when all of this holds.
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Run:
    """One run in a folder of its own, started as often as it takes."""

    def __init__(self, trainee, place, planted=()):
        self.folder = tempfile.mkdtemp(dir=place)
        self.command = [trainee, self.folder + "/run", *planted]
        self.kills = 0

    def start(self, *options):
        return subprocess.Popen([*self.command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, *options):
        """The two hashes and the count of file operations, or None after a kill."""
        return self.outcome(self.start(*options))

    def outcome(self, process):
        out, err = process.communicate(timeout=120)
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
            return None
        if process.returncode != 0:
            raise SystemExit(f"FAILED: status {process.returncode} after {self.kills} kills in {self.folder}: {err}")
        return out.split()

    def close(self):
        """Nothing but the two checkpoints that are kept may be left, and `latest`."""
        names = sorted(os.listdir(self.folder + "/run"))
        if len(names) != 3 or names[0] != "latest" or not all(re.fullmatch(r"step-\d{8}", name) for name in names[1:]):
            raise SystemExit(f"FAILED: left behind: {names}")
        shutil.rmtree(self.folder)


def killed_at_each_operation(trainee, place, operations, planted=()):
    results, kills = [], 0
    for at in range(operations):
        run = Run(trainee, place, planted)
        assert run.finish("--die-at", str(at)) is None, f"operation {at} never came"
        results.append(run.finish()[:2])
        kills += run.kills
        run.close()
    return results, kills


def killed_at_random(trainee, place, kills, seconds, rng):
    """Runs to their ends until there were so many kills."""
    results, done = [], 0
    while done < kills:
        run = Run(trainee, place)
        while True:
            process = run.start()
            if run.kills < 12:  # then it may finish
                time.sleep(rng.uniform(0, 1.1 * seconds))
                process.send_signal(signal.SIGKILL)
            if (result := run.outcome(process)) is not None:
                break
        results.append(result[:2])
        done += run.kills
        run.close()
    return results, done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trainee")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        calm = Run(options.trainee, place)
        start = time.monotonic()
        *expected, _, operations = calm.finish()
        seconds = time.monotonic() - start
        calm.close()

        named, named_kills = killed_at_each_operation(options.trainee, place, int(operations))
        wrong = sum(result != expected for result in named)
        print(f"killed before each of {operations} file operations: {len(named)} runs, {named_kills} kills, {wrong} with other bits")

        runs, kills = killed_at_random(options.trainee, place, options.kills, seconds, random.Random(options.seed))
        late = sum(result != expected for result in runs)
        print(f"killed at random instants: {len(runs)} runs, {kills} kills, {late} with other bits")

        planted, _ = killed_at_each_operation(options.trainee, place, 40, ["--forget-random"])
        seen = sum(result != expected for result in planted)
        print(f"planted, a resume that forgets its random state: {seen} of {len(planted)} runs with other bits")
        return 0 if wrong + late == 0 and seen > 0 else 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
