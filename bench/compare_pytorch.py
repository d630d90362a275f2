"""Trains the same seq2seq transformer with PyTorch and with libtrain, and compares target tokens per second.

  python3 bench/compare_pytorch.py [--configs g2p,tiny,small] [--rounds 5] [--variants eager,compile] [--padded]
  python3 bench/compare_pytorch.py --device cuda [--configs base,big] [--variants eager,compile,packed] [--python PYTHON]

The two run in alternating processes on the same batches. One line per configuration ends in "ratio R": median target
tokens per second of libtrain over that of the fastest PyTorch variant; above 1 where libtrain is ahead. A step is
forward, backward, clip to norm 1 and Adam, in f32. Making batches is outside the timing on both sides. libtrain packs
its batches and PyTorch pads each to its longest sequences; with --padded, a second line per configuration compares
them on sequences of one length, where no padding is needed.

With --device cuda both sides compute in bf16 (PyTorch by autocast, with its fused Adam) on batches of similar lengths that are on the device
already, and libtrain runs kernel by kernel and as graphs. PyTorch's variants: eager on padded batches; compile in mode max-autotune, padded to
multiples of 16 tokens and 8 pairs, for few shapes; packed, with variable-length attention and no padding. PYTHON has a PyTorch for CUDA, which
is not made here.
"""
import argparse
import collections
import datetime
import itertools
import json
import math
import os
import pathlib
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import pytorch_packed
import torch_env

PAD, BOS, EOS, FIRST_ID = 0, 1, 2, 4
THREADS, DROPOUT, CLIP, RATE, BETAS, EPSILON = 2, 0.1, 1.0, 1e-3, (0.9, 0.98), 1e-9  # as in train_step_bench.cpp
NOISE = 0.15  # deviation of a round from its median above which a result is called noisy
Config = collections.namedtuple("Config", "size heads inner layers source_vocab target_vocab lengths pairs tokens")
CONFIGS = {  # the models of train_step_bench.cpp; a batch has so many pairs, or as many as reach so many target tokens
    "g2p": Config(128, 4, 512, 3, 32, 48, (4, 16), 128, None),
    "tiny": Config(128, 4, 256, 4, 10000, 10000, (6, 32), 128, None),
    "small": Config(256, 4, 1024, 3, 8000, 8000, (6, 40), None, 2048),
    "base": Config(512, 8, 2048, 6, 32000, 32000, (6, 48), None, 16000),
    "big": Config(1024, 16, 4096, 6, 32000, 32000, (6, 48), None, 16000),
}
DEFAULTS = {  # configurations, variants, batches, steps before the timed ones
    "cpu": (["g2p", "tiny", "small"], ["eager"], 10, 10),
    "cuda": (["base", "big"], ["eager", "compile", "packed"], 6, 20),
}


class WorkerError(Exception):
    pass


# Batches ------------------------------------------------------------------------------------------------------------


def draw_batches(config, count, seed, one_length):
    """Batches of (source, target) lists without EOS, lengths uniform or all the longest; determined by the seed."""
    rng = random.Random(seed)
    shortest, longest = (config.lengths[1],) * 2 if one_length else config.lengths

    def sequence(vocab):
        length = rng.randint(shortest, longest)  # EOS included
        return [rng.randrange(FIRST_ID, vocab) for _ in range(length - 1)]

    def batch():
        pairs = []
        while len(pairs) < config.pairs if config.pairs else target_tokens(pairs) < config.tokens:
            pairs.append((sequence(config.source_vocab), sequence(config.target_vocab)))
        return pairs

    return [batch() for _ in range(count)]


def draw_bucketed(config, count, seed):
    """As draw_batches, of pairs whose two lengths are alike, sorted by length: what a batch is padded by is little."""
    rng = random.Random(seed)
    shortest, longest = config.lengths
    pool = []
    while target_tokens(pool) < count * config.tokens:
        length = rng.randint(shortest, longest)
        lengths = (min(max(length + rng.randint(-3, 3), shortest), longest), length)
        vocabularies = (config.source_vocab, config.target_vocab)
        pool.append(tuple([rng.randrange(FIRST_ID, v) for _ in range(n - 1)] for n, v in zip(lengths, vocabularies)))
    pool.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    batches = [[]]
    for pair in pool:
        if target_tokens(batches[-1]) + len(pair[1]) + 1 > config.tokens and len(batches) < count:
            batches.append([])
        batches[-1].append(pair)
    rng.shuffle(batches)
    return batches


def target_tokens(batch):
    return sum(len(target) + 1 for _, target in batch)


def density(batches):
    """Share of source and target positions that are not padding when each batch is padded to its longest sequences."""
    used = sum(len(ids) + 1 for batch in batches for pair in batch for ids in pair)
    padded = sum((max(map(len, side)) + 1) * len(batch) for batch in batches for side in zip(*batch))
    return used / padded


def write_batches(path, batches):
    """One pair a line, an empty line between batches."""
    join = lambda ids: " ".join(map(str, ids))
    path.write_text("\n".join("".join(f"{join(s)}\t{join(t)}\n" for s, t in batch) for batch in batches))


def read_batches(path):
    split = lambda ids: [int(i) for i in ids.split()]
    return [[tuple(map(split, line.split("\t"))) for line in block.splitlines()]
            for block in pathlib.Path(path).read_text().split("\n\n")]


# PyTorch, in a process of its own ------------------------------------------------------------------------------------


def make_model(torch, config):
    nn = torch.nn

    class Seq2Seq(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_embedding = nn.Embedding(config.source_vocab, config.size)
            self.target_embedding = nn.Embedding(config.target_vocab, config.size)
            self.transformer = nn.Transformer(config.size, config.heads, config.layers, config.layers, config.inner,
                                              DROPOUT, norm_first=True, batch_first=True)
            self.dropout = nn.Dropout(DROPOUT)
            for embedding in (self.source_embedding, self.target_embedding):
                nn.init.normal_(embedding.weight, std=config.size**-0.5)
            angle = torch.arange(config.lengths[1])[:, None] / 10000 ** (torch.arange(0, config.size, 2) / config.size)
            positions = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
            self.register_buffer("positions", positions)

        def embed(self, embedding, ids):
            return self.dropout(embedding(ids) * math.sqrt(config.size) + self.positions[:ids.shape[1]])

        def forward(self, source, target_in, labels, source_padding, target_padding, causal):
            hidden = self.transformer(
                self.embed(self.source_embedding, source), self.embed(self.target_embedding, target_in),
                tgt_mask=causal, src_key_padding_mask=source_padding, tgt_key_padding_mask=target_padding,
                memory_key_padding_mask=source_padding, src_is_causal=False, tgt_is_causal=True, memory_is_causal=False)
            logits = hidden @ self.target_embedding.weight.T
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD)

    return Seq2Seq()


def pad_batch(torch, batch):
    """The arguments of forward. Masks of padding only where there is some: without them attention is faster."""
    pad_rows = torch.nn.utils.rnn.pad_sequence
    source, labels = (pad_rows([torch.tensor(ids + [EOS]) for ids in side], batch_first=True, padding_value=PAD)
                      for side in zip(*batch))
    target_in = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], dim=1)
    padding = lambda ids: (ids == PAD) if (ids == PAD).any() else None
    causal = torch.triu(torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool), diagonal=1)
    return source, target_in, labels, padding(source), padding(labels), causal


def round_up(batch):
    """Sides of a batch padded to a multiple of 16 tokens and 8 pairs. A pair that was added is one word without a label."""
    sides = []
    for side, extra in zip(zip(*batch), (EOS, PAD)):
        rows = [ids + [EOS] for ids in side]
        length = -(-max(map(len, rows)) // 16) * 16
        rows += [[extra]] * (-len(rows) % 8)
        sides.append([ids + [PAD] * (length - len(ids)) for ids in rows])
    return sides


def pad_to_bucket(torch, batch):
    """As pad_batch, in few shapes; masks always, so that the graph is one."""
    source, labels = (torch.tensor(side) for side in round_up(batch))
    target_in = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], dim=1)
    target_padding = labels == PAD
    target_padding[:, 0] = False  # of the pairs that were added: a row with nothing to attend to would be NaN
    causal = torch.triu(torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool), diagonal=1)
    return source, target_in, labels, source == PAD, target_padding, causal


def to_cuda(tensors):
    return [t if t is None else t.cuda() for t in tensors]


def loss_of_packed(torch, model, batches, precision):
    """(loss function, its batches), after checking that it is the padded model's."""
    packed = pytorch_packed.Packed(torch, model, DROPOUT)
    ready = [pytorch_packed.pack(torch, batch, "cuda", BOS, EOS) for batch in batches]
    model.eval()
    with torch.no_grad(), precision():
        ours, theirs = packed.loss(*ready[0]).item(), model(*to_cuda(pad_batch(torch, batches[0]))).item()
    model.train()
    if not abs(ours - theirs) < 0.01 * abs(theirs):
        sys.exit(f"error: packed by {packed.name}, the loss is {ours}, padded {theirs}")
    return packed.loss, ready


def prepare_on_cuda(torch, variant, model, batches, precision):
    """(loss function, its batches, on the device)"""
    if variant == "packed":
        return loss_of_packed(torch, model, batches, precision)
    if variant == "compile":
        return torch.compile(model, mode="max-autotune", dynamic=False), [to_cuda(pad_to_bucket(torch, b)) for b in batches]
    return model, [to_cuda(pad_batch(torch, batch)) for batch in batches]


def train_on_cuda(args):
    try:
        import torch
    except ImportError:
        sys.exit(f"error: {sys.executable} has no PyTorch; --python names one that has")
    if not torch.cuda.is_available():
        sys.exit(f"error: PyTorch {torch.__version__} finds no CUDA device")
    if args.worker == "describe":
        return print(json.dumps({"version": torch.__version__, "build": torch.cuda.get_device_name()}))
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = make_model(torch, CONFIGS[args.config]).cuda()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
    precision = lambda: torch.autocast("cuda", torch.bfloat16)
    pairs = read_batches(args.batches)
    try:
        loss_of, batches = prepare_on_cuda(torch, args.worker, model, pairs, precision)
    except pytorch_packed.Unavailable as reason:
        sys.exit(f"error: {reason}")
    steps = zip(range(args.warmup + args.steps), itertools.cycle(zip(pairs, batches)))
    targets = 0
    for step, (pair_list, batch) in steps:
        if step == args.warmup:
            torch.cuda.synchronize()
            start = time.perf_counter()
        torch.compiler.cudagraph_mark_step_begin() if args.worker == "compile" else None
        optimizer.zero_grad(set_to_none=True)
        with precision():
            loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        targets += target_tokens(pair_list) if step >= args.warmup else 0
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(json.dumps({
        "target_tokens_per_second": targets / seconds, "step_seconds": [seconds],
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "final_loss": loss.item(),
        "parameters": sum(p.numel() for p in parameters)}))


def train_pytorch(args):
    if args.device == "cuda":
        return train_on_cuda(args)
    torch_env.enter(args.venv)
    import torch
    torch.set_num_threads(THREADS)
    if args.worker == "describe":
        return print(json.dumps({"version": torch.__version__, "build": torch.__config__.show()}))
    torch.manual_seed(args.seed)
    model = make_model(torch, CONFIGS[args.config])
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
        raise WorkerError(f"{command[0]}: {error.strerror}; build train_step_bench, or give --libtrain") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reasons = [line for line in lines if re.match(r"[\w.]*(error|exception|failed)\b", line, re.IGNORECASE)]
        reason = " ".join((reasons or lines or ["no message"])[-2:])
        raise WorkerError(f"{command[0]}: exit status {done.returncode}: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


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


def compare(name, args, python, torch_environment, folder, one_length):
    """Runs all rounds of one configuration and prints its line."""
    batches = batches_of(name, args, one_length)
    path = pathlib.Path(folder) / "batches.txt"
    write_batches(path, batches)
    counts = [target_tokens(batches[i % len(batches)]) for i in range(args.warmup, args.warmup + args.steps)]
    options = ["--config", name, "--batches", str(path), "--steps", str(args.steps), "--warmup", str(args.warmup)]
    variants = [Side(f"PyTorch {v}", torch_command(python, args, v), torch_environment) for v in args.variants]
    ours = our_sides(args)
    for _ in range(args.rounds):
        for side in [*variants, *ours]:
            try:
                side.run(options, sum(counts), args.timeout)
            except WorkerError as error:
                if side.name not in ("PyTorch compile", "PyTorch packed"):
                    raise
                print(f"{name}: left out {side.name}: {error}")
                variants.remove(side)
    if not variants:
        raise WorkerError("no PyTorch variant ran")
    sizes = {side.reports[0]["parameters"] for side in [*variants, *ours]}
    if len(sizes) != 1:
        raise WorkerError(f"{name}: the models differ, with {sizes} parameters")
    best, libtrain = (max(sides, key=lambda side: side.median) for sides in (variants, ours))
    noise_warning(name, [*ours, *variants])
    ratios = [ours / theirs for ours, theirs in zip(libtrain.rates, best.rates)]
    kind = "padded vs padded" if one_length else f"packed vs padded ({density(batches):.0%} of padded positions used)"
    print(f"{name}, {kind}, {sizes.pop()} parameters, {sum(counts) / len(counts):.0f} target tokens a step: "
          f"{'; '.join(side.summary() for side in [*ours, *variants])}; "
          f"round by round {min(ratios):.2f}–{max(ratios):.2f}; ratio {libtrain.median / best.median:.3f}", flush=True)
    if args.device == "cuda":
        print(f"{name}, {libtrain.name}: " + ", ".join(f"{libtrain.median / side.median:.2f} × {side.name}" for side in variants), flush=True)


def processor():
    """Its model name as Linux gives it, or what Python knows."""
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def compare_all(args):
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(variable, None)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    python, torch_environment = (args.python, dict(os.environ)) if args.device == "cuda" else torch_env.prepare(args.venv)
    with tempfile.TemporaryDirectory() as folder:
        torch_environment["TORCHINDUCTOR_CACHE_DIR"] = folder
        about = run_worker(torch_command(python, args, "describe"), torch_environment, args.timeout)
        print(f"PyTorch {about['version']}\n{about['build'].strip()}")
        settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("OMP_", "GOMP_", "OPENBLAS_", "MKL_"))]
        print("Both without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, so that each library picks its own kernels, and with",
              *settings)
        print(f"{args.rounds} alternating rounds of {args.steps} steps after {args.warmup}, "
              f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, {processor()}, {datetime.date.today()}", flush=True)
        for name, one_length in itertools.product(args.configs, (False, True) if args.padded else (False,)):
            compare(name, args, python, torch_environment, folder, one_length)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda allowed: lambda text: [w if w in allowed else parser.error(f"{w}: not one of {', '.join(allowed)}")
                                          for w in text.split(",")]
    add = parser.add_argument
    add("--venv", default=".venv-torch", help="environment with PyTorch; made if needed (default %(default)s)")
    add("--libtrain", default="build/bench/bench/train_step_bench", help="libtrain's worker (default %(default)s)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default %(default)s")
    add("--python", default=sys.executable, help="with --device cuda: one with PyTorch for CUDA (default this one)")
    add("--configs", type=words([*CONFIGS]), help=f"of {', '.join(CONFIGS)} (default g2p,tiny,small; cuda: base,big)")
    add("--variants", type=words(["eager", "compile", "packed"]),
        help="of eager, compile, and on cuda packed (default eager; cuda: all)")
    add("--padded", action="store_true", help="also compare on sequences of one length")
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--steps", type=int, default=20, help="timed in a round (default %(default)s)")
    add("--warmup", type=int, help="steps before them; --distinct see every shape (default 10; cuda: 20)")
    add("--distinct", type=int, help="batches, used in turn (default 10; cuda: 6)")
    add("--seed", type=int, default=1, help="of batches and PyTorch (default %(default)s)")
    add("--timeout", type=int, default=1800, help="seconds for one process (default %(default)s)")
    for hidden in ("--worker", "--config", "--batches"):  # how this script calls itself
        add(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    configs, variants, distinct, warmup = DEFAULTS[args.device]
    args.configs, args.variants = args.configs or configs, args.variants or variants
    args.distinct, args.warmup = args.distinct or distinct, warmup if args.warmup is None else args.warmup
    if args.device == "cpu" and "packed" in args.variants:
        parser.error("--variants packed: PyTorch has variable-length attention on cuda alone")
    return args


if __name__ == "__main__":
    arguments = parse()
    try:
        train_pytorch(arguments) if arguments.worker else compare_all(arguments)
    except WorkerError as error:
        sys.exit(f"error: {error}")
