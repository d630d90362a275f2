"""The table "On a GPU" of docs/performance.md: what each case of gpu_bench should take on an H200, and what it took.

  python3 bench/gpu_table.py                       prints the table as Markdown, nothing measured
  python3 bench/gpu_table.py --bench bench.jsonl   with what gpu_bench printed on a device; --json FILE writes the rows too
  python3 bench/gpu_table.py --check GPU_BENCH     runs GPU_BENCH --small: it must know the cases of this table and count the same
                                                   bytes and FLOP; and docs/performance.md must hold the table's predictions

The predictions were written down before any measurement and stay as they are; a better model goes into a column of its own.

Limit: bytes at 4.3 TB/s (a copy within the device) or FLOP at 790 TFLOP/s (a large product in bf16), whichever takes longer: both were seen on
an H200. Goal: the share of that limit to be reached. Prediction of kernels: the limit over the share that such kernels reach elsewhere, and
2 us a launch for filling and draining the device. Of steps: the sum over families of kernels (products at 70 % of the limit at size 512 and
85 % at 1024, memory at 88 %, 1 us a launch) for 16,384 tokens on either side. With gradients of weights on a second stream: a product of a large
matrix takes all registers of a multiprocessor, so that only what it leaves idle at its end is there for the other stream. Of the third of the
products' time that these are (3.3 ms at base, 9 ms at big), 15 % and 5 %.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

COPY, PRODUCTS, LAUNCH = 4.3e6, 790e6, 2.0  # bytes and FLOP a microsecond; microseconds
Sizes = collections.namedtuple("Sizes", "tokens width vocab inner parameters long_tokens long_length")
FULL = Sizes(16384, 512, 32000, 2048, 61_000_000, 8192, 2048)  # as in gpu_bench.cpp
SMALL = Sizes(128, 64, 96, 96, 3000, 160, 160)
Step = collections.namedtuple("Step", "layers size inner vocab pairs lengths")  # as in gpu_steps.cpp
STEPS = {"base": Step(6, 512, 2048, 32000, 606, 43), "big": Step(6, 1024, 4096, 32000, 606, 43)}
SMALL_STEPS = {"base": Step(1, 64, 128, 96, 12, 5), "big": Step(1, 128, 256, 96, 12, 5)}
GOALS = {"base": 1.0e6, "big": 400e3}  # target tokens a second
STEP_TIMES = {"base": {"eager": 15.7e3, "graph": 15.4e3, "graph two streams": 14.9e3},  # predicted microseconds
              "big": {"eager": 40.0e3, "graph": 39.7e3, "graph two streams": 39.3e3}}
# Of a case: bytes, FLOP, share of the limit to reach, predicted share and launches (or microseconds and tokens, of a step), words for the table.
Case = collections.namedtuple("Case", "bytes flops goal share launches counts microseconds tokens", defaults=(None, None))


def both(name, forward, backward, goal, share, launches, counts, flops=(0, 0)):
    """forward alone, and with backward; of `counts` what each moves or computes."""
    yield f"{name} bf16 forward", Case(forward, flops[0], goal[0], share[0], launches[0], counts[0])
    yield (f"{name} bf16 forward+backward",
           Case(forward + backward, sum(flops), goal[1], share[1], sum(launches), f"{counts[0]} + {counts[1]}"))


def step_flops(s):
    lengths = [6 + i % s.lengths for i in range(s.pairs)]
    tokens, squares = sum(lengths), sum(n * n for n in lengths)
    encoder, decoder = 4 * s.size**2 + 2 * s.size * s.inner, 8 * s.size**2 + 2 * s.size * s.inner
    products = tokens * (s.layers * (encoder + decoder) + s.vocab * s.size)
    return 6 * products + 3 * squares * s.size * s.layers * 10, tokens


def memory_cases(s):
    m, e = 2 * s.tokens * s.width, 2
    logits = s.tokens // 4 * s.vocab * e
    memory = (0.88, 0.88)
    yield from both("layer_norm", 2 * m, 3 * m, (0.85, 0.85), (0.88, 0.85), (1, 2), ("2e", "3e"))
    yield from both("rms_norm", 2 * m, 3 * m, (0.85, 0.85), (0.88, 0.85), (1, 2), ("2e", "3e"))
    yield from both("add_dropout_layer_norm", 4 * m, 4 * m, (0.90, 0.85), (0.88, 0.85), (1, 2), ("4e", "4e"))
    yield from both("gelu", 2 * m, 3 * m, (0.93, 0.93), memory, (1, 1), ("2e", "3e"))
    yield from both("dropout", 2 * m, 2 * m, (0.92, 0.92), memory, (1, 1), ("2e", "2e"))
    yield from both("embedding", 2 * m, m + 4 * s.vocab * s.width, (0.85, 0.80), (0.80, 0.65), (1, 5), ("2e", "e, 4 B of the table"))
    yield from both("cross_entropy", logits, 2 * logits, (0.92, 0.92), memory, (1, 1), ("e a logit", "2e a logit"))
    for length in (27, 64, 128):
        flops = 4 * s.tokens * length * s.width
        share = {27: (0.55, 0.45), 64: (0.70, 0.55), 128: (0.75, 0.55)}[length]
        yield from both(f"attention {length}", 4 * m, 8 * m, (0.80, 0.75), share, (1, 1), ("4e", "8e"), (flops, 2.5 * flops))


def product_cases(s):
    rows = s.tokens // 4
    logits, linear = 2 * rows * s.vocab * s.width, 2 * s.tokens * s.inner * s.width
    yield from both("linear_cross_entropy", 0, 0, (0.56, 0.56), (0.45, 0.57), (2, 4), ("2dV a token", "4dV a token"), (logits, 2 * logits))
    yield from both("linear", 0, 0, (0.70, 0.70), (0.68, 0.66), (1, 2), ("2mnk", "4mnk"), (linear, 2 * linear))
    for name, shares in (("linear_bias", (0.66, 0.45)), ("linear_relu", (0.66, 0.45)), ("linear_gelu_tanh", (0.60, 0.45))):
        yield f"{name} in the product bf16", Case(0, linear, 0.70, shares[0], 1, "2mnk")
        yield f"{name} in two kernels bf16", Case(0, linear, 0.70, shares[1], 2, "2mnk")
    for kind, width, goal, share in (("", s.width, (0.63, 0.57), (0.33, 0.29)),
                                     (" wgmma", max(s.width, 128), (0.63, 0.57), (0.37, 0.31)),
                                     (" heads of 128", max(s.width, 128), (0.78, 0.71), (0.35, 0.30)),
                                     (" heads of 128 wgmma", max(s.width, 128), (0.78, 0.71), (0.50, 0.38))):
        causal = 2 * s.long_tokens * s.long_length * width
        yield from both(f"attention causal {s.long_length}{kind}", 0, 0, goal, share, (1, 2) if kind else (1, 3),
                        ("2td a token", "5td a token"), (causal, 2.5 * causal))


def step_cases(steps):
    for name, step in steps.items():
        flops, tokens = step_flops(step)
        goal = flops / PRODUCTS / (tokens / GOALS[name] * 1e6)
        for way, microseconds in STEP_TIMES[name].items():
            yield f"step {name} {way} bf16", Case(0, flops, goal, None, None, "products and attention", microseconds, tokens)


def cases(s, steps):
    """name → Case, in the order of gpu_bench."""
    table = {}
    for kind, moved in (("f32", 28), ("with bf16 weights", 30)):
        table[f"clip_by_norm {kind}"] = Case(4 * s.parameters, 0, 0.95, 0.90, 2, "4 B a parameter")
        table[f"adam {kind}"] = Case(moved * s.parameters, 0, 0.92, 0.88, 1, f"{moved} B a parameter")
    return table | dict(memory_cases(s)) | dict(product_cases(s)) | dict(step_cases(steps))


def limit(case):
    return max(case.bytes / COPY, case.flops / PRODUCTS)


def predicted(case):
    return case.microseconds or limit(case) / case.share + LAUNCH * case.launches


def time(us):
    return f"{us / 1e3:.1f} ms" if us >= 1e3 else f"{us:.0f} µs" if us >= 100 else f"{us:.1f} µs"


def rows(measured):
    """One dictionary a case; `measured`: name → line of gpu_bench."""
    for name, case in cases(FULL, STEPS).items():
        line = measured.get(name)
        yield {"name": name, "counts": case.counts, "bytes": case.bytes, "flops": case.flops, "limit_us": limit(case),
               "goal_of_limit": case.goal, "predicted_us": predicted(case),
               "measured_us": line and line["us"], "of_measured_roof": line and line["of_roof"],
               "of_copy": line and line.get("copy_us", 0) / line["us"],
               "tokens": case.tokens}


def thousands(rate):
    return f"{rate / 1e3:,.0f} k tokens/s"


def with_rate(text, tokens, us):
    return f"{text}, {thousands(tokens / us * 1e6)}" if tokens else text


def predictions(row):
    """The part of a row of the table that no measurement changes."""
    limit_us, goal, us, tokens = row["limit_us"], row["goal_of_limit"], row["predicted_us"], row["tokens"]
    return (f"| `{row['name']}` | {row['counts']} | {time(limit_us)} | {with_rate(f'{goal:.0%}', tokens, limit_us / goal)} | "
            f"{with_rate(f'{time(us)}, {limit_us / us:.0%}', tokens, us)} |")


def measurement(row):
    if row["measured_us"] is None:
        return " not yet |"
    if row["of_measured_roof"] > 2:  # nothing ran, as in forward of dropout: what has bytes in the cache is not so quick
        return " without a tape, none |"
    us, of_copy = row["measured_us"], f" ({row['of_copy']:.0%})" if row["of_copy"] else ""
    return " " + with_rate(f"{time(us)}, {row['of_measured_roof']:.0%}{of_copy}", row["tokens"], us) + " |"


HEAD = ["| case | moves or computes | limit of an H200 | goal, of the limit | predicted for an H200 | "
        "measured, of the measured roof (of copies) |", "|---|---|---|---|---|---|"]


def markdown(measured):
    return HEAD + [predictions(row) + measurement(row) for row in rows(measured)]


def read_lines(text):
    return {line["name"]: line for line in map(json.loads, text.splitlines())}


def check(gpu_bench):
    """What is wrong, as lines."""
    done = subprocess.run([gpu_bench, "--small"], capture_output=True, text=True)
    if done.returncode:
        return [f"{gpu_bench} --small ended with status {done.returncode}: {done.stderr.strip() or 'no message'}"]
    lines, wrong = read_lines(done.stdout), []
    for name, case in cases(SMALL, SMALL_STEPS).items():
        line = lines.get(name)
        if line is None:
            wrong.append(f"gpu_bench has no case '{name}'")
        elif (line["bytes"], line["flops"]) != (case.bytes, case.flops):
            wrong.append(f"{name}: {line['bytes']} bytes and {line['flops']} FLOP by gpu_bench, {case.bytes} and {case.flops} here")
        elif case.bytes and not case.flops and not line.get("copy_us", 0) > 0:
            wrong.append(f"{name}: gpu_bench gives no time of copies")
    told = {"us": 20, "of_roof": 0.4, "copy_us": 10}
    wrong += [f"{row['name']}: {measurement(row)}" for row in rows({name: told for name in cases(FULL, STEPS)}) if "40% (50%)" not in measurement(row)]
    wrong += [f"{row['name']}: {measurement(row)}" for row in rows({"dropout bf16 forward": told | {"of_roof": 4.9}})
              if row["measured_us"] and "none" not in measurement(row)]
    unknown = [n for n in lines if n not in cases(SMALL, SMALL_STEPS) and " bf16" in n and "weights" not in n and "roof" not in n]
    wrong += [f"gpu_bench has the case '{name}', the table has not" for name in unknown]
    page = (pathlib.Path(__file__).resolve().parent.parent / "docs" / "performance.md").read_text()
    expected = [HEAD[0], *map(predictions, rows({}))]
    wrong += [f"docs/performance.md lacks: {line}" for line in expected if line not in page]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", help="what gpu_bench printed")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--check", metavar="GPU_BENCH", help="compare with gpu_bench --small and the page")
    args = parser.parse_args()
    if args.check:
        sys.exit("\n".join(check(args.check)) or 0)
    measured = read_lines(pathlib.Path(args.bench).read_text()) if args.bench else {}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(list(rows(measured)), indent=1) + "\n")
    print("\n".join(markdown(measured)))


if __name__ == "__main__":
    main()
