"""Trains the same seq2seq transformer with PyTorch and with libtrain, and compares target tokens per second.

  python3 bench/compare_pytorch.py [--configs g2p,tiny,small] [--rounds 5] [--variants eager,compile] [--padded] [--torch VERSION] [--as-on-intel]
  python3 bench/compare_pytorch.py --device cuda [--configs base,big] [--variants eager,packed] [--only N] [--python PY]

The two run in alternating processes on the same batches. One line per configuration ends in "ratio R": median target
tokens per second of libtrain over that of the fastest PyTorch variant; above 1 where libtrain is ahead. A step is
forward, backward, clip to norm 1 and Adam, in f32. Making batches is outside the timing on both sides. libtrain packs
its batches and PyTorch pads each to its longest sequences; with --padded, a second line per configuration compares
them on sequences of one length, where no padding is needed. PyTorch's MKL chooses its kernels by the maker of the
processor: with --as-on-intel it takes those that it has for Intel's on others too.

With --device cuda both sides compute in bf16 (PyTorch by autocast, with its fused Adam) on batches of similar lengths
that are on the device already, and libtrain runs kernel by kernel and as graphs. PyTorch's variants: eager on padded
batches; compile-quick in mode reduce-overhead, padded to multiples of 16 tokens and 8 pairs, for few shapes (with
--only N, batch N alone is used; with --layers N, models have N layers of each kind); packed, with variable-length
attention and no padding; and, where it is asked for, compile in mode max-autotune, which times alternatives and so
compiles each shape for minutes. PY has a PyTorch for CUDA, which is not made here.
"""
import argparse
import datetime
import itertools
import json
import math
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import pytorch_cuda
import torch_env
from pytorch_model import (BETAS, CLIP, CONFIGS, EPSILON, PAD, RATE, THREADS, density, draw_batches, draw_bucketed,
                           make_model, model_config, pad_batch, read_batches, target_tokens, write_batches)

NOISE = 0.15  # deviation of a round from its median above which a result is called noisy
DEFAULTS = {  # configurations, variants, batches, steps before the timed ones
    "cpu": (["g2p", "tiny", "small"], ["eager"], 10, 10),
    "cuda": (["base", "big"], ["eager", "compile-quick", "packed"], 6, 20),
}


class WorkerError(Exception):
    pass


# PyTorch, in a process of its own ------------------------------------------------------------------------------------


def train_pytorch(args):
    if args.device == "cuda":
        return pytorch_cuda.train_on_cuda(args)
    torch_env.enter(args.venv)
    import torch
    torch.set_num_threads(THREADS)
    if args.worker == "describe":
        return print(json.dumps({"version": torch.__version__, "build": torch.__config__.show()}))
    torch.manual_seed(args.seed)
    model = make_model(torch, model_config(args))
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=BETAS, eps=EPSILON, foreach=True)
    batches = [pad_batch(torch, batch) for batch in read_batches(args.batches)]
    loss_of = model
    if args.worker == "compile":
        loss_of = torch.compile(model, dynamic=True)
        for batch in batches:  # compiles for every shape before the first step is timed
            loss_of(*batch).backward()
    seconds, targets = [], 0
    for step, batch in zip(range(args.warmup + args.steps), itertools.cycle(batches)):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        last_loss = loss.item()
        if step >= args.warmup:
            seconds.append(time.perf_counter() - start)
            targets += int((batch[2] != PAD).sum())
    print(json.dumps({
        "target_tokens_per_second": targets / sum(seconds), "step_seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "final_loss": last_loss,
        "parameters": sum(p.numel() for p in parameters)}))


# The comparison -------------------------------------------------------------------------------------------------------


def run_worker(command, environment, timeout):
    """The JSON object that the command prints last."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{command[0]}: no result after {timeout} s; see --timeout") from None
    except OSError as error:
        raise WorkerError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reasons = [line for line in lines if re.match(r"[\w.]*(error|exception|failed)\b", line, re.IGNORECASE)]
        reason = " ".join((reasons or lines or ["no message"])[-2:])
        raise WorkerError(f"{command[0]}: exit status {done.returncode}: {reason}")
    line = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    try:
        return json.loads(re.sub(r"(?<=: )-?(nan|inf)\b", "NaN", line))  # as printf prints what is not finite
    except ValueError:
        raise WorkerError(f"{command[0]}: the last it printed is no result: {line[:200]}") from None


class Side:
    """One contestant: how its process is started, and what its rounds gave."""

    def __init__(self, name, command, environment):
        self.name, self.command, self.environment = name, command, environment
        self.reports, self.rates = [], []

    def run(self, options, tokens, timeout):
        report = run_worker([*self.command, *options], self.environment, timeout)
        rate = tokens / sum(report["step_seconds"])
        if abs(report["target_tokens_per_second"] / rate - 1) > 0.01:
            raise WorkerError(f"{self.name} counted other tokens than the {tokens} it was given")
        if not math.isfinite(report["final_loss"]):
            raise WorkerError(f"{self.name}: the loss is not finite, so that its steps are no measure")
        self.reports.append(report)
        self.rates.append(rate)

    @property
    def median(self):
        return statistics.median(self.rates)

    def summary(self):
        peak = max(report["peak_mib"] for report in self.reports)
        text = (f"{self.name} {self.median:.0f} tok/s ({min(self.rates):.0f}–{max(self.rates):.0f}), {peak:.0f} MiB, "
                f"loss {self.reports[-1]['final_loss']:.3f}")
        allocations = self.reports[-1].get("system_allocations_per_step")  # after every shape was seen: 0 is the aim
        return text if allocations is None else f"{text}, {allocations:g} system allocations a step"


def noise_warning(name, sides):
    """Says so when a round was far from its median: then other programs had the cores, and the ratio means little."""
    worst = max(abs(rate / side.median - 1) for side in sides for rate in side.rates)
    if worst > NOISE:
        print(f"{name}: NOISY, a round lies {worst:.0%} from its median, load {os.getloadavg()[0]:.1f}; repeat idle")


def torch_command(python, args, worker):
    return [python, __file__, "--worker", worker, "--venv", args.venv, "--seed", str(args.seed), "--device", args.device]


def our_sides(args):
    command = [args.libtrain, "--device", args.device]
    sides = [Side("libtrain", command, dict(os.environ))]
    if args.device == "cuda":
        sides.append(Side("libtrain graphs", [*command, "--graphs", "1"], dict(os.environ)))
    return sides


def batches_of(name, args, one_length):
    if args.device == "cuda" and CONFIGS[name].tokens and not one_length:
        return draw_bucketed(CONFIGS[name], args.distinct, args.seed)
    return draw_batches(CONFIGS[name], args.distinct, args.seed, one_length)


def padding(batches, variants, args, one_length):
    """How either side pads, in words."""
    if one_length:
        return "padded vs padded"
    shares = f"{density(batches):.0%} of padded positions used"
    if args.device == "cuda" and any(side.name.removeprefix("PyTorch ") in pytorch_cuda.COMPILED for side in variants):
        shares += f", {density(batches, pytorch_cuda.rounded_positions):.0%} where torch.compile rounds up"
    return f"packed vs padded ({shares})"


def compare(name, args, python, torch_environment, folder, one_length):
    """Runs all rounds of one configuration and prints its line."""
    batches = batches_of(name, args, one_length)
    if args.only is not None:
        batches = [batches[args.only]]
    path = pathlib.Path(folder) / "batches.txt"
    write_batches(path, batches)
    counts = [target_tokens(batches[i % len(batches)]) for i in range(args.warmup, args.warmup + args.steps)]
    options = ["--config", name, "--batches", str(path), "--steps", str(args.steps), "--warmup", str(args.warmup),
               *(["--layers", str(args.layers)] if args.layers else [])]
    variants = [Side(f"PyTorch {v}", torch_command(python, args, v), torch_environment) for v in args.variants]
    ours = our_sides(args)
    for _ in range(args.rounds):
        for side in [*variants, *ours]:
            try:
                side.run(options, sum(counts), args.timeout)
            except WorkerError as error:
                if side.name == "PyTorch eager" or side in ours:
                    raise
                print(f"{name}: left out {side.name}: {error}", flush=True)
                variants.remove(side)
    if not variants:
        raise WorkerError("no PyTorch variant ran")
    sizes = {side.reports[0]["parameters"] for side in [*variants, *ours]}
    if len(sizes) != 1:
        raise WorkerError(f"the models differ, with {sizes} parameters")
    best, libtrain = (max(sides, key=lambda side: side.median) for sides in (variants, ours))
    noise_warning(name, [*ours, *variants])
    ratios = [ours / theirs for ours, theirs in zip(libtrain.rates, best.rates)]
    if args.layers:
        name += f" of {args.layers}+{args.layers} layers"
    print(f"{name}, {padding(batches, variants, args, one_length)}, {sizes.pop()} parameters, {sum(counts) / len(counts):.0f} target tokens a step: "
          f"{'; '.join(side.summary() for side in [*ours, *variants])}; "
          f"round by round {min(ratios):.2f}–{max(ratios):.2f}; ratio {libtrain.median / best.median:.3f}", flush=True)
    if args.device == "cuda":
        print(f"{name}, {libtrain.name}: " + ", ".join(f"{libtrain.median / side.median:.2f} × {side.name}" for side in variants), flush=True)


def intel_claim(folder):
    """A library that, loaded before MKL, tells it that the processor is Intel's."""
    library = pathlib.Path(folder) / "intel_claim.so"
    source = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)], input=source, text=True, check=True)
    return str(library)


def processor():
    """Its model name as Linux gives it, or what Python knows."""
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def check_programs(args):
    """Before PyTorch is made or run for nothing."""
    if not shutil.which(args.libtrain):
        raise WorkerError(f"--libtrain {args.libtrain}: no such program; build train_step_bench, or name another")
    if args.device == "cuda" and not shutil.which(args.python):
        raise WorkerError(f"--python {args.python}: no such program; name a Python that has PyTorch for CUDA")


def compare_all(args):
    check_programs(args)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # takes process and folder along
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(variable, None)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    python, torch_environment = ((args.python, dict(os.environ)) if args.device == "cuda"
                                 else torch_env.prepare(args.venv, args.torch))
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        if args.as_on_intel:
            print("PyTorch with the kernels that MKL has for Intel's processors")
            torch_environment["LD_PRELOAD"] = intel_claim(folder)
        torch_environment.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)  # one that is kept spares compiling again
        about = run_worker(torch_command(python, args, "describe"), torch_environment, args.timeout)
        print(f"PyTorch {about['version']}\n{about['build'].strip()}")
        settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("OMP_", "GOMP_", "OPENBLAS_", "MKL_"))]
        print("Both without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, so that each library picks its own kernels, and with",
              *settings)
        print(f"{args.rounds} alternating rounds of {args.steps} steps after {args.warmup}, "
              f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, {processor()}, {datetime.date.today()}", flush=True)
        for name, one_length in itertools.product(args.configs, (False, True) if args.padded else (False,)):
            try:
                compare(name, args, python, torch_environment, folder, one_length)
            except WorkerError as error:
                failed.append(name)
                print(f"error: {name}: {error}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"error: not compared: {', '.join(failed)}")


def words(allowed):
    """Type of an option that takes some of them, each once."""
    def parse_words(text):
        for word in text.split(","):
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"'{word}' is not one of {', '.join(allowed)}")
        return [*dict.fromkeys(text.split(","))]
    return parse_words


def at_least(least):
    """Type of an option that takes a whole number."""
    def parse_number(text):
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number >= {least}")
        return int(text)
    return parse_number


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--venv", help="environment with PyTorch; made if needed (default .venv-torch, for another version .venv-torch-VERSION)")
    add("--torch", metavar="VERSION", default=torch_env.TORCH, help="of PyTorch on the CPU (default %(default)s)")
    add("--as-on-intel", action="store_true", help="PyTorch on the CPU with the kernels that MKL has for Intel's processors")
    add("--libtrain", default="build/bench/bench/train_step_bench", help="libtrain's worker (default %(default)s)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default %(default)s")
    add("--python", default=sys.executable, help="with --device cuda: one with PyTorch for CUDA (default this one)")
    add("--configs", type=words([*CONFIGS]), help=f"of {', '.join(CONFIGS)} (default g2p,tiny,small; cuda: base,big)")
    add("--variants", type=words(["eager", "compile", "compile-quick", "packed"]),
        help="of eager, compile, and on cuda compile-quick and packed (default eager; cuda: eager,compile-quick,packed)")
    add("--padded", action="store_true", help="also compare on sequences of one length")
    add("--rounds", type=at_least(1), default=5, help="default %(default)s")
    add("--steps", type=at_least(1), default=20, help="timed in a round (default %(default)s)")
    add("--warmup", type=at_least(0), help="steps before them; --distinct see every shape (default 10; cuda: 20)")
    add("--distinct", type=at_least(1), help="batches, used in turn (default 10; cuda: 6)")
    add("--layers", type=at_least(1), metavar="N", help="of encoder and decoder each (default: the configuration's)")
    add("--only", type=int, metavar="N", help="use number N of the distinct batches alone, from 0")
    add("--seed", type=int, default=1, help="of batches and PyTorch (default %(default)s)")
    add("--timeout", type=at_least(1), default=1800, help="seconds for one process (default %(default)s)")
    for hidden in ("--worker", "--config", "--batches"):  # how this script calls itself
        add(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    configs, variants, distinct, warmup = DEFAULTS[args.device]
    args.configs, args.variants = args.configs or configs, args.variants or variants
    args.distinct, args.warmup = args.distinct or distinct, warmup if args.warmup is None else args.warmup
    args.venv = args.venv or (".venv-torch" if args.torch == torch_env.TORCH else f".venv-torch-{args.torch}")
    if args.device == "cpu" and {"packed", "compile-quick"} & {*args.variants}:
        parser.error("--variants packed and compile-quick are on cuda alone")
    if args.device == "cuda" and (args.as_on_intel or args.torch != torch_env.TORCH):
        parser.error("--torch and --as-on-intel are on the CPU alone")
    if args.only is not None and not 0 <= args.only < args.distinct:
        parser.error(f"--only {args.only}: there are batches 0 to {args.distinct - 1}")
    return args


if __name__ == "__main__":
    arguments = parse()
    try:
        train_pytorch(arguments) if arguments.worker else compare_all(arguments)
    except WorkerError as error:
        sys.exit(f"error: {error}")
