"""How the time and memory of a training step grow: with batch tokens, vocabulary, sequence length and model width. On the CPU, in f32.

  python3 bench/scaling.py [--libtrain build/bench/bench/train_step_bench] [--svg docs/scaling.svg] [--seconds 2]

Prints a table for docs/performance.md and draws it. The model is g2p of compare_pytorch.py (3 + 3 layers, size 128, 4 heads, inner size 512,
dropout 0.1, clip, Adam, two threads) with 1,000 words, 2,048 target tokens in sequences of 32, but for the one thing that varies; of the width,
head size 32 and an inner size of four times that. A point is the median step of --seconds, at least three steps.
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile

from pytorch_model import FIRST_ID, THREADS, write_batches

START = {"tokens": 2048, "vocab": 1000, "length": 32, "size": 128}
SWEEPS = {
    "tokens": ("batch tokens", [128, 512, 2048, 8192, 16384]),
    "vocab": ("vocabulary", [1000, 4000, 16000, 64000, 128000]),
    "length": ("sequence length", [16, 64, 256, 1024, 2048]),
    "size": ("model width", [64, 128, 256, 512, 1024]),
}
PANEL, MARGIN = (300, 190), (58, 34)  # width and height of a plot and of the room around it, in pixels


def draw_batch(point):
    rng = random.Random(1)
    sequence = lambda: [rng.randrange(FIRST_ID, point["vocab"]) for _ in range(point["length"] - 1)]  # and EOS
    return [(sequence(), sequence()) for _ in range(point["tokens"] // point["length"])]


def run(args, point, steps):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "batches.txt"
        write_batches(path, [draw_batch(point)])
        command = [args.libtrain, "--config", "g2p", "--batches", str(path), "--size", str(point["size"]), "--vocab", str(point["vocab"]),
                   "--warmup", "2", "--steps", str(steps)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def measure(args, point):
    first = statistics.median(run(args, point, 3)["step_seconds"])
    report = run(args, point, max(3, int(args.seconds / first)))
    seconds = statistics.median(report["step_seconds"])
    return {**point, "seconds": seconds, "rate": point["tokens"] / seconds, "memory": report["activations_mib"],
            "lasting": report["parameters"] * 16 / 2**20}


def table(sweeps):
    yield "| what varies | | target tokens a second | ms a step | activations, MiB | weights, gradients, Adam, MiB |"
    yield "|---|---|---|---|---|---|"
    for key, points in sweeps.items():
        for p in points:
            yield f"| {SWEEPS[key][0]} | {p[key]:,} | {p['rate']:,.0f} | {p['seconds'] * 1e3:,.1f} | {p['memory']:,.0f} | {p['lasting']:,.0f} |"


def polyline(values, ys, box, color, unit):
    """One curve over equally spaced points, from 0 to its largest value, which is written beside it."""
    (left, top), (width, height) = box, PANEL
    most = max(ys)
    at = [(left + width * i / (len(values) - 1), top + height * (1 - y / most)) for i, y in enumerate(ys)]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in at)
    x, y = at[ys.index(most)]
    anchor = "end" if x > left + width / 2 else "start"
    return (f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}" fill="none" stroke="{color}" stroke-width="1.5"/>{dots}'
            f'<text x="{x:.1f}" y="{y - 6:.1f}" fill="{color}" text-anchor="{anchor}">{most:,.0f} {unit}</text>')


def panel(key, points, index):
    left = MARGIN[0] + (index % 2) * (PANEL[0] + 2 * MARGIN[0])
    top = MARGIN[1] + (index // 2) * (PANEL[1] + 2 * MARGIN[1] + 16)
    values = [p[key] for p in points]
    ticks = "".join(f'<text x="{left + PANEL[0] * i / (len(values) - 1):.1f}" y="{top + PANEL[1] + 14}" text-anchor="middle">{v:,}</text>'
                    for i, v in enumerate(values))
    return (f'<path d="M{left},{top} V{top + PANEL[1]} H{left + PANEL[0]}" fill="none" stroke="#888"/>{ticks}'
            f'<text x="{left + PANEL[0] / 2}" y="{top + PANEL[1] + 30}" text-anchor="middle" font-weight="bold">{SWEEPS[key][0]}</text>'
            + polyline(values, [p["rate"] for p in points], (left, top), "#1f6feb", "tokens/s")
            + polyline(values, [p["memory"] for p in points], (left, top), "#d1242f", "MiB"))


def draw(sweeps):
    width, height = 2 * (PANEL[0] + 2 * MARGIN[0]), 2 * (PANEL[1] + 2 * MARGIN[1] + 16)
    panels = "".join(panel(key, points, i) for i, (key, points) in enumerate(sweeps.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
            f'<rect width="{width}" height="{height}" fill="white"/>{panels}</svg>\n')


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--libtrain", default="build/bench/bench/train_step_bench", help="libtrain's worker (default %(default)s)")
    add("--svg", type=pathlib.Path, help="where to draw it (default: nowhere)")
    add("--seconds", type=float, default=2, help="timed for each point (default %(default)s)")
    args = parser.parse_args()
    if not shutil.which(args.libtrain):
        parser.error(f"--libtrain {args.libtrain}: no such program; build train_step_bench, or name another")
    return args


if __name__ == "__main__":
    arguments = parse()
    results = {key: [measure(arguments, {**START, key: value}) for value in values] for key, (_, values) in SWEEPS.items()}
    print(f"{datetime.date.today()}, load {os.getloadavg()[0]:.1f}", *table(results), sep="\n")
    if arguments.svg:
        arguments.svg.write_text(draw(results))
