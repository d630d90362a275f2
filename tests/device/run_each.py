"""Runs every test in a process of its own, so that one that hangs or breaks the device takes no other along: python3 run_each.py PROGRAM SPEC

SPEC is Catch2's, for a program of version 2 or 3. Several tests share the device at a time; those that look at its memory, or at what is
launched, come afterwards, alone. Prints a line for each test as it ends, with its output if it failed. The self-test reads what a test that
does not exist prints. The exit status is 0 when all passed.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

SIDE_BY_SIDE, SECONDS = 6, 60
ALONE = ("memory plan", "allocates nothing", "graphs:")
NONE_RAN = "No tests ran"  # version 2 calls that a success


def list_tests(program, spec):
    done = subprocess.run([program, spec, "--list-tests", "--verbosity", "quiet"], capture_output=True, text=True)
    names = done.stdout
    if names.startswith(("Matching test cases", "All available test cases")):  # version 2: names, tags and a sum
        names = subprocess.run([program, spec, "--list-test-names-only"], capture_output=True, text=True).stdout
    tests = [name.strip() for name in names.splitlines() if name.strip()]
    if not tests:
        sys.exit(f"no test of {program} matches {spec}: {done.stderr.strip() or 'no message'}")
    return tests


def run_test(program, name):
    """(name, what it came to, seconds, output)"""
    began, spec = time.monotonic(), re.sub(r"([\\,\[])", r"\\\1", name)
    try:
        done = subprocess.run([program, spec], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
                              env={"OMP_WAIT_POLICY": "passive", **os.environ})
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        status, output = f"cut off after {SECONDS} s", expired.stdout or b""
    output = output.decode(errors="replace")
    passed = status == 0 and NONE_RAN not in output
    return name, "passed" if passed else f"failed ({status})", time.monotonic() - began, output


def report(results):
    """How many of them failed."""
    failed = 0
    for name, outcome, seconds, output in results:
        print(f"{outcome} {seconds:5.1f} s  {name}", flush=True)
        if outcome != "passed":
            failed += 1
            print(output[:6000], flush=True)
    return failed


def main():
    program, spec = sys.argv[1:]
    if run_test(program, "no test, [has \\ this name")[1] == "passed":
        sys.exit("self-test failed: a test that does not exist has passed")
    names = list_tests(program, spec)
    alone = [name for name in names if any(part in name for part in ALONE)]
    others = [name for name in names if name not in alone]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        began = [pool.submit(run_test, program, name) for name in others]
        failed = report(test.result() for test in concurrent.futures.as_completed(began))
    failed += report(run_test(program, name) for name in alone)
    print(f"{len(names)} tests, {failed} failed")
    sys.exit(1 if failed else 0)


main()
