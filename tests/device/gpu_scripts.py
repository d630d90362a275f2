"""What the scripts for a GPU do where there is none, and where a part fails, hangs or is interrupted.

    python3 gpu_scripts.py REPOSITORY [--plant]

They run in copies of their own, with stubs in place of what they call: no GPU, no build and no PyTorch is needed. With
--plant each bug of PLANTS is planted in such a copy instead, and the check beside it must fail. Exit status 0 when all
of this holds.
"""
import collections
import fcntl
import json
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

SCRIPTS = ("tests/gpu.sh", "tests/device", "tests/oracle/torch_env.py", "bench")
PARTS = {"tests": "initcheck", "bench": "tuned-step"}  # of each script, one that comes behind gpu_bench
LONG = 60  # seconds that nothing here takes, even where other programs have the cores; a program that hangs takes 600

# Programs by name; `line` is the command as it was called. One that matches $HANGS does not end; to one that matches
# $SHORT, timeout gives a second.
STUBS = {
    "nvcc": 'echo "Cuda compilation tools, release 13.0, V13.0.1"',
    "ninja": "",
    "nvidia-smi": 'echo "$DEVICE"',
    "cmake": """
        if [ "$1" = --build ]; then
          for name in bench/gpu_bench tests/device/libtrain_device_tests tests/device/sanitized; do
            mkdir -p "$(dirname "$2/$name")"
            cp "$PLACE/bin/program" "$2/$name"
          done
        elif [ -n "$CONFIGURE_FAILS" ]; then
          printf 'CMake Error at CMakeLists.txt:1 (find_package):\\n  Could not find "fmt"\\n\\n-- incomplete\\n'
          exit 1
        fi""",
    "program": "",
    "python3": """
        case $line in
          *"import sys, torch"*) [ -z "$NO_TORCH" ] || { echo "Error: $NO_TORCH"; exit 1; } ;;
        esac""",
    "compute-sanitizer": "",
    "timeout": 'case $line in $SHORT) shift 3; set -- -k 5 1 "$@" ;; esac; exec "$TIMEOUT" "$@"',
}
STUB = """#!/usr/bin/env bash
line="$0${*:+ $*}"
echo "$line" >>"$PLACE/calls"
%s
case $line in
  $HANGS)
    (trap '' TERM; exec sleep 600) &
    echo $! $$ >"$PLACE/hanging.new"
    mv "$PLACE/hanging.new" "$PLACE/hanging"
    exec sleep 600
    ;;
esac
"""

# Stands for Python with PyTorch and for train_step_bench. $HANGS, $FAILS and $NAN name a worker and a configuration.
WORKER = """#!%s
import os, sys, time
sys.path.insert(0, os.environ["PLACE"] + "/bench")
import pytorch_model
options = dict(zip(sys.argv[1:], sys.argv[2:]))
who = options.get("--worker", "libtrain") + " " + options.get("--config", "")
with open(os.environ["PLACE"] + "/calls", "a") as file:
    file.write(who + "\\n")
if who == "describe ":
    sys.exit(print('{"version": "0", "build": "a stub"}'))
if who == os.environ["FAILS"]:
    sys.exit("error: planned")
if who == os.environ["HANGS"]:
    with open(os.environ["PLACE"] + "/hanging.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, os.environ["PLACE"] + "/hanging")
    time.sleep(600)
batches, warmup = pytorch_model.read_batches(options["--batches"]), int(options["--warmup"])
steps = range(warmup, warmup + int(options["--steps"]))
tokens = sum(pytorch_model.target_tokens(batches[i %% len(batches)]) for i in steps)
print('{"target_tokens_per_second": %%d, "step_seconds": [1], "peak_mib": 1, "final_loss": %%s, "parameters": 1}'
      %% (tokens, "-nan" if who == os.environ["NAN"] else 1.5))
"""
SWITCHES = ("CONFIGURE_FAILS", "FAILS", "HANGS", "NAN", "NO_TORCH", "SHORT")  # variables of the stubs
COMPARISON = (sys.executable, "bench/compare_pytorch.py", "--device", "cuda", "--python", "bin/worker",
              "--libtrain", "bin/worker", "--configs", "g2p,tiny", "--rounds", "1")


class Fault(Exception):
    pass


def expect(holds, what):
    if not holds:
        raise Fault(what)


def text_with(path, words):
    """The text of the file, in which they stand once."""
    text = path.read_text()
    expect(text.count(words) == 1, f"'{words}' stands {text.count(words)} times in {path}, expected once")
    return text


class Place:
    """A copy of the scripts, the stubs, and what they have been called with."""

    def __init__(self, repository, folder, plant=None):
        self.root = pathlib.Path(folder)
        for path in SCRIPTS:
            copy = shutil.copytree if (repository / path).is_dir() else shutil.copy
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            copy(repository / path, self.root / path)
        for name, body in STUBS.items():
            self.write(f"bin/{name}", STUB % body)
        self.write("bin/worker", WORKER % sys.executable)
        (self.root / "tmp").mkdir()
        self.environment = {
            "PATH": f"{self.root}/bin:/usr/bin:/bin", "PLACE": folder, "TMPDIR": f"{folder}/tmp",
            "TIMEOUT": shutil.which("timeout"), "DEVICE": "9.0, A stub, 1, 2 MHz, 3 W", **dict.fromkeys(SWITCHES, "")}
        if plant:
            self.replace(*plant)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        (self.root / path).chmod(0o755)

    def replace(self, path, before, after):
        (self.root / path).write_text(text_with(self.root / path, before).replace(before, after))

    def start(self, *command, folder=".", terminal=None, **environment):
        def take_terminal():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        return subprocess.Popen(
            command, cwd=self.root / folder, env={**self.environment, **environment}, text=True,
            stdin=terminal or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=terminal is not None, preexec_fn=terminal and take_terminal)

    def run(self, *command, **how):
        """(exit status, what it printed)"""
        process = self.start(*command, **how)
        try:
            printed = process.communicate(timeout=LONG)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise Fault(f"{command} did not end") from None
        return process.returncode, printed

    def compare(self, *options, **how):
        return self.run(*COMPARISON, *options, **how)

    def calls(self):
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def outcomes(self, script, folder="build-gpu"):
        """{part: (outcome, remark)} of results.json"""
        path = self.root / folder / f"results-{script}" / "results.json"
        expect(path.exists(), f"no {path}")
        parts = {part["part"]: (part["outcome"], part["remark"]) for part in json.loads(path.read_text())["parts"]}
        return collections.defaultdict(lambda: ("not there", ""), parts)

    def hung(self):
        """The processes of what hangs, so far."""
        path = self.root / "hanging"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def hanging(self):
        """The same, once there are some."""
        await_that(self.hung, "nothing came to hang")
        return self.hung()

    def close(self):
        for pid in filter(is_running, self.hung()):
            os.kill(pid, signal.SIGKILL)


def await_that(condition, what, seconds=LONG):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, what)
        time.sleep(0.02)


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def expect_gone(processes):
    await_that(lambda: not any(map(is_running, processes)), "a process was left behind", 10)


# tests/gpu.sh and bench/gpu.sh ----------------------------------------------------------------------------------------


def no_device(place):
    for script in PARTS:
        status, printed = place.run("bash", f"{script}/gpu.sh", DEVICE="No devices were found")
        expect(status == 2 and f"{script}/gpu.sh: nvidia-smi names no device: No devices were" in printed, printed)


def arguments(place):
    for script in PARTS:
        for words, answer in ((["--smal"], "unknown option --smal"), (["nosuch"], "no folder nosuch"),
                              (["bench", "tests"], "too many: tests")):
            status, printed = place.run("bash", f"{script}/gpu.sh", *words)
            expect(status == 2 and f"{script}/gpu.sh: " in printed and answer in printed, f"{words}: {printed}")
        status, printed = place.run("bash", f"{script}/gpu.sh", "--help")
        expect(status == 0 and "DEPENDENCIES" in printed and "set -u" not in printed, printed)
        status, printed = place.run("bash", f"{script}/gpu.sh", OUT="/proc")
        expect(status == 2 and "cannot write to /proc" in printed, printed)
    for words in ([], ["nosuch"], ["bench"]):
        status, printed = place.run("bash", "bench/gpu.sh", "--small", *words)
        expect(status == 2, f"{words}: {printed}")
    expect(not place.calls(), "something was begun")


def cut_off(place):
    place.replace("bench/gpu.sh", "compare big-quick big 160", "compare big-quick big 600")  # it never has the time
    status, printed = place.run("bash", "bench/gpu.sh", HANGS="*/gpu_bench", SHORT="*/gpu_bench")
    parts = place.outcomes("bench")
    expect(status == 1 and parts["bench"][0] == "failed" and "cut off after" in parts["bench"][1], printed)
    expect("bench.log" in parts["bench"][1], f"no log is named: {printed}")
    expect(all(parts[name][0] == "passed" for name in ("table", "compare-base", "tuned-step", "tuned-linear")), printed)
    expect(parts["compare-big-quick"][0] == "not run" and "run it again" in printed.splitlines()[-1], printed)
    expect_gone(place.hung())


def planted_run_cut_off(place):
    memcheck = "*compute-sanitizer --tool memcheck*"
    status, printed = place.run("bash", "tests/gpu.sh", HANGS=memcheck, SHORT=memcheck)
    parts = place.outcomes("tests")
    expect(status == 1 and "cut off" in parts["memcheck"][1], printed)
    expect("did not find" in parts["racecheck"][1] and parts["bench"][0] == "passed", printed)


def failed_configuration(place):
    status, printed = place.run("bash", "bench/gpu.sh", CONFIGURE_FAILS="1")
    outcome, remark = place.outcomes("bench")["configure"]
    expect(status == 1 and outcome == "failed" and 'Could not find "fmt"' in remark, printed)
    expect("configure.log" in remark and "install.sh" in printed, printed)


def interrupted(place, script, end, terminal=None):
    """What holds however it was ended: end(process)."""
    results = place.root / "build-gpu" / f"results-{script}"
    place.write(f"{results}/{PARTS[script]}.log", "of an earlier run")
    place.write(f"{results}/results.json", '{"parts": []}')
    place.write(f"{results}/choices/kept", "")
    process = place.start("bash", f"{script}/gpu.sh", terminal=terminal, HANGS="*/gpu_bench")
    processes = place.hanging()
    end(process)
    try:
        printed = process.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault("it did not end") from None
    parts = place.outcomes(script)
    expect(process.returncode == 1 and parts["build"][0] == "passed" and parts["interrupted"][0] == "failed", printed)
    expect("interrupted: failed" in printed and "bench" not in parts, printed)
    expect(not (results / f"{PARTS[script]}.log").exists(), "results of an earlier run")
    expect((results / "choices" / "kept").exists(), "what cuBLASLt has chosen was thrown away")
    expect_gone(processes)


def terminated(place):
    interrupted(place, "bench", lambda process: process.terminate())


def control_c(place):
    keyboard, terminal = pty.openpty()
    interrupted(place, "tests", lambda process: os.write(keyboard, b"\x03"), terminal)
    os.close(keyboard)
    os.close(terminal)


def paths_and_torch(place):
    shutil.copy(place.root / "bin/python3", place.root / "bench/python")
    for script in PARTS:
        status, printed = place.run("bash", f"../{script}/gpu.sh", folder="bench", OUT="out", PYTHON="./python",
                                    NO_TORCH="none here")
        expect(status == (1 if script == "tests" else 0), printed)  # a stub finds no planted bugs
    for script in PARTS:
        expect((place.root / f"bench/out/results-{script}.tar.gz").exists(), "no results in one file")
        expect(PARTS[script] in place.outcomes(script, "bench/out"), "results of another script")
    outcome, remark = place.outcomes("bench", "bench/out")["compare-big"]
    expect(outcome == "not run" and "none here" in remark and "PYTHON" in remark, remark)
    asked = [line for line in place.calls() if "/python -c import sys, torch" in line and "timeout" not in line]
    expect(len(asked) == 1, "PyTorch was looked for more than once")


def small(place):
    place.write("executed/bench/gpu_bench", (place.root / "bin/program").read_text())
    status, printed = place.run("bash", "bench/gpu.sh", "--small", "executed")
    parts = place.outcomes("bench", "executed")
    expect(status == 0 and parts["bench"][0] == "passed" and parts["compare-base"][0] == "not run", printed)


# What they call -------------------------------------------------------------------------------------------------------


def numbers(place):
    for option, value in (("--rounds", "0"), ("--steps", "0"), ("--warmup", "-1"), ("--distinct", "0"),
                          ("--layers", "0"), ("--timeout", "x")):
        status, printed = place.compare(option, value)
        expect(status == 2 and option in printed.splitlines()[-1], f"{option} {value}: {printed}")
    for option in ("--python", "--libtrain"):
        status, printed = place.compare(option, "nosuch")
        expect(status == 1 and f"{option} nosuch" in printed, printed)
    expect(not place.calls(), "something was begun")


def comparison(place):
    status, printed = place.compare("--variants", "eager,compile-quick,eager")
    expect(status == 0 and printed.count("ratio") == 2 and "where torch.compile rounds up" in printed, printed)
    expect(place.calls().count("eager g2p") == 1, "a variant that was named twice ran twice")
    for what in ({"NAN": "libtrain g2p"}, {"FAILS": "compile-quick g2p"}):
        status, printed = place.compare("--variants", "compile-quick", **what)
        expect(status == 1 and "error: g2p: " in printed and "Traceback" not in printed, printed)
        expect(printed.count("ratio") == 1 and "not compared: g2p" in printed, printed)


def comparison_terminated(place):
    process = place.start(*COMPARISON, HANGS="eager g2p")
    processes = place.hanging()
    process.terminate()
    process.communicate(timeout=LONG)
    expect(process.returncode == 128 + signal.SIGTERM, f"status {process.returncode}")
    expect(not list((place.root / "tmp").iterdir()), "its folder was left behind")
    expect_gone(processes)


def silent_failures(place):
    place.write("bin/fails", "#!/bin/sh\nexit 3\n")
    status, printed = place.run(sys.executable, "bench/gpu_table.py", "--check", "bin/fails")
    expect(status == 1 and "status 3" in printed, printed)
    place.write("bin/fails", "#!/bin/sh\necho 'no libfmt.so' >&2\nexit 127\n")
    status, printed = place.run(sys.executable, "tests/device/run_each.py", "bin/fails", "[device]")
    expect(status == 1 and "no libfmt.so" in printed, printed)


CHECKS = (no_device, arguments, cut_off, planted_run_cut_off, failed_configuration, terminated, control_c,
          paths_and_torch, small, numbers, comparison, comparison_terminated, silent_failures)

# (check, file, what stands there, what is planted instead)
ON_GPU, COMPARE = "tests/device/on_gpu.sh", "bench/compare_pytorch.py"
PLANTS = (
    (no_device, ON_GPU, "-E '^[0-9]+\\.[0-9]+, '", "."),
    (arguments, ON_GPU, "-*) refuse", "-planted) refuse"),
    (arguments, ON_GPU, '! mkdir -p "$results" ||', "! true &&"),
    (cut_off, ON_GPU, 'ended="cut off"', ":"),
    (cut_off, ON_GPU, "  return $status\n}\n\n# commit", "  finish\n}\n\n# commit"),
    (cut_off, ON_GPU, 'left"\n  lacked=1', 'left"'),
    (planted_run_cut_off, "tests/gpu.sh", '"$bug" || status=$?', '"$bug"'),
    (failed_configuration, ON_GPU, "CMake Error|", ""),
    (terminated, ON_GPU, "  trap interrupted INT TERM HUP\n", ""),
    (terminated, ON_GPU, '    kill -KILL -- "-$pid"', '    kill -0 -- "-$pid"'),
    (terminated, ON_GPU, '"$results"/*.{log,jsonl}', ""),
    (control_c, ON_GPU, "  trap interrupted INT TERM HUP\n", "  trap interrupted TERM HUP\n"),
    (paths_and_torch, ON_GPU, "/results-$script\n", "\n"),
    (paths_and_torch, "bench/gpu.sh", "*/*) python=", "planted) python="),
    (paths_and_torch, "bench/gpu.sh", 'if [ "$no_torch" = unknown ]', "if true"),
    (small, "bench/gpu.sh", 'if [ ${#small[@]} -gt 0 ]; then say', "if false; then say"),
    (numbers, COMPARE, '"--rounds", type=at_least(1)', '"--rounds", type=int'),
    (numbers, COMPARE, "if not shutil.which(args.libtrain)", "if False"),
    (comparison, COMPARE, '[*dict.fromkeys(text.split(","))]', 'text.split(",")'),
    (comparison, COMPARE, 'if not math.isfinite(report["final_loss"])', "if False"),
    (comparison, COMPARE, "failed.append(name)", "raise"),
    (comparison_terminated, COMPARE, "    signal.signal(", "    (lambda *_: None)("),
    (silent_failures, "bench/gpu_table.py", "status {done.returncode}: ", ""),
    (silent_failures, "tests/device/run_each.py", ": {done.stderr.strip() or 'no message'}", ""),
)


def fault_of(check, repository, plant=None):
    """What is wrong, or None."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(repository, folder, plant)
        try:
            return check(place)
        except Fault as fault:
            return str(fault)
        finally:
            place.close()


def main():
    repository, faults = pathlib.Path(sys.argv[1]).resolve(), 0
    expect({check for check, *_ in PLANTS} == set(CHECKS), "a check has no planted bug")
    for _, path, before, _ in PLANTS:
        text_with(repository / path, before)
    plants = PLANTS if sys.argv[2:] == ["--plant"] else [(check,) for check in CHECKS]
    for check, *plant in plants:
        fault = fault_of(check, repository, plant)
        wrong = bool(fault) != bool(plant)
        faults += wrong
        told = [check.__name__, *([f"without {plant[1]!r}"] if plant else []), *([fault] if fault else [])]
        print(f"{'FAILED' if wrong else 'ok'}: {': '.join(told)}", flush=True)
    print(f"{len(plants)} checks, {faults} failed")
    sys.exit(1 if faults else 0)


main()
