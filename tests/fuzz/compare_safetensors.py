"""Holds the safetensors reader and writer to the reference implementation: compare_safetensors.py VERDICTS VENV [--mutants N]

VERDICTS is the program of verdicts.cpp; VENV a folder with the package `safetensors` of PyPI, made if needed. N mutated files, always the same ones,
are given to both: the verdicts must agree, and what both accept must have the same tensors. Where the reference accepts what is refused here, the
reason must be one of those in safetensors_differences.txt; the other way round there is none. Then files that either side wrote are read by the
other, for every dtype. Exit status 77 when the package cannot be had.
"""
import argparse
import collections
import json
import os
import random
import re
import struct
import subprocess
import sys
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = "0.8.0"
SIZES = {"F32": 4, "F64": 8, "BF16": 2, "I32": 4, "I64": 8, "U8": 1}
LONG_NAMES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16", "I32": "int32", "I64": "int64", "U8": "uint8"}
NAMES = ["w", "a.b", "한국어", "ə̃", "\"quoted\"", "tab\t", "a/b", "", " ", "\u007f", "😀", "é", "e\u0301", "line\n", "\\", "n" * 300]
NUMBERS = ["0", "1", "2", "4", "7", "8", "-1", "-0", "1.0", "1e0", "01", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615",
           "18446744073709551616", "1e999", "null", "true", "\"1\"", "[]", "{}"]
PIECES = ["dtype", "shape", "data_offsets", "__metadata__", "F32", "F16", "BF16", "U8", "BOOL", "F8", "x", "\\u0077", "\\ud800", "\\ud83d\\ude00", "\\", "\u00e9", " ", "\t", "\0",
          "\n", "{", "}", "[", "]", ",", ":", "\""]


def enter(folder):
    """Runs this script again inside the environment."""
    python = os.path.join(folder, "bin", "python")
    done = os.path.join(folder, "complete-" + VERSION)
    if not os.path.exists(done):
        try:
            venv.create(folder, with_pip=True)
        except subprocess.CalledProcessError:  # Debian has ensurepip in a package of its own
            print("skipped: this Python cannot make environments; install python3-venv")
            sys.exit(77)
        pip = subprocess.run([python, "-m", "pip", "install", "--quiet", f"safetensors=={VERSION}", "numpy"], capture_output=True, text=True)
        if pip.returncode:
            print(f"skipped: the package safetensors {VERSION} cannot be had: {pip.stderr.strip().splitlines()[-1:]}")
            sys.exit(77)
        open(done, "w", encoding="ascii").close()
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:], "--inside"])


def file_of(header, data):
    header = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header)) + header + data


def alter(entries, choose):
    """Makes one field mean something else, in a header that is still JSON."""
    tensors = [name for name in entries if name != "__metadata__"]
    if not tensors or choose.random() < 0.05:
        entries["__metadata__"] = choose.choice([None, {}, [], 1, {"a": None}, {"a": 1}, {"a": {}}, "text"])
        return
    tensor = entries[choose.choice(tensors)]
    begin, end = tensor["data_offsets"]
    name, value = choose.choice([
        ("dtype", choose.choice([*SIZES, "F16", "I8", "BOOL", "U64", "f32", "", 1, None])),
        ("shape", tensor["shape"] + [choose.choice([0, 1, 2])]), ("shape", tensor["shape"][:-1]), ("shape", tensor["shape"] + [1] * 9),
        ("shape", choose.choice([None, 1, [-1], [1.5], [[1]], ["1"], [2**63], [2**64], [2**62, 8], [2**32, 2**32, 0]])),
        ("data_offsets", [begin + choose.randrange(-4, 5), end + choose.randrange(-4, 5)]), ("data_offsets", [end, begin]), ("data_offsets", [begin]),
        ("data_offsets", [begin + (end - begin) // 2] * 2), ("data_offsets", [begin, end, end]), ("data_offsets", [begin, 2**64 + end]), ("data_offsets", [float(begin), end]),
        ("extra", choose.choice([1, None, [[]], {}]))])
    if choose.random() < 0.1:
        del tensor[name if name != "extra" else "shape"]
    else:
        tensor[name] = value


def valid_parts(choose, sound=True):
    """(header, data) of a file of up to five tensors, in any order, with any spaces; with something altered unless it is to be sound."""
    entries, data = {}, b""
    if choose.random() < 0.3:
        entries["__metadata__"] = {"format": "pt", choose.choice(NAMES): choose.choice(NAMES)}
    for _ in range(choose.randrange(6)):
        dtype = choose.choice([*SIZES])
        shape = [choose.randrange(4) for _ in range(choose.randrange(4))]
        count = SIZES[dtype]
        for size in shape:
            count *= size
        fields = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + count]}
        name = choose.choice(NAMES)
        if name in entries:
            continue
        entries[name] = dict(choose.sample(list(fields.items()), 3))
        data += choose.randbytes(count)
    if not sound:
        alter(entries, choose)
    names = choose.sample([*entries], len(entries))
    separators = (",", ":") if choose.random() < 0.7 else (", ", " : ")
    text = json.dumps({name: entries[name] for name in names}, ensure_ascii=choose.random() < 0.3, separators=separators)
    return text + " " * choose.randrange(9), data


def change(text, choose):
    """One change of a header: of a number, a text, a bracket or a value, or of single characters."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}\[\],:]|\s+|.', text, re.DOTALL)
    if not tokens:
        return choose.choice(PIECES)
    at, other = choose.randrange(len(tokens)), choose.randrange(len(tokens))
    kind = choose.randrange(7)
    if kind == 0:
        del tokens[at]
    elif kind == 1:
        tokens.insert(other, tokens[at])
    elif kind == 2:
        tokens[at], tokens[other] = tokens[other], tokens[at]
    elif kind == 3:
        tokens.insert(at, choose.choice(PIECES))
    elif kind == 4:
        groups = [i for i, token in enumerate(tokens) if token == "{"]
        begin = choose.choice(groups or [0])
        tokens[at:at] = tokens[begin:begin + choose.randrange(1, 20)]
    elif tokens[at][0] == '"':
        tokens[at] = '"' + choose.choice(PIECES[:16] + [tokens[at][1:-1] + "x"]) + '"'
    else:
        numbers = [i for i, token in enumerate(tokens) if token[0].isdigit()]
        at = choose.choice(numbers or [at])
        near = [str(max(0, int(tokens[at]) + step)) for step in (-4, -1, 1, 4)] if tokens[at].isdigit() else []
        tokens[at] = choose.choice(NUMBERS + 4 * near)
    return "".join(tokens)


def mutant(number):
    choose = random.Random(number)
    kind = choose.randrange(20)
    header, data = valid_parts(choose, sound=kind < 12)
    if kind == 0 or kind >= 12:
        return file_of(header, data)
    if kind == 1:
        data = data + b"x" * choose.randrange(1, 9) if choose.random() < 0.5 else data[:choose.randrange(len(data) + 1)]
        return file_of(header, data)
    if kind == 2:
        whole = bytearray(file_of(header, data))
        for _ in range(choose.randrange(1, 4)):
            whole[choose.randrange(len(whole))] = choose.randrange(256)
        return bytes(whole)
    if kind == 3:
        whole = file_of(header, data)
        return whole[:choose.randrange(len(whole) + 1)]
    if kind == 4:
        raw = bytearray(header.encode())
        raw[choose.randrange(len(raw)):0] = choose.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b"\xe2\x82"])
        return file_of(bytes(raw), data)
    for _ in range(choose.choice([1, 1, 1, 2, 3])):
        header = change(header, choose)
    return file_of(header, data)


def ours(program, files, *options):
    frames = b"".join(struct.pack("<Q", len(data)) + data for data in files)
    done = subprocess.run([program, *options], input=frames, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    assert len(lines) == len(files), f"{len(lines)} answers to {len(files)} files"
    return lines


def theirs(data):
    """{name: (dtype, shape, bytes)}, or the reason for a refusal."""
    try:
        return {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in safetensors.deserialize(data)}
    except safetensors.SafetensorError as error:
        return str(error)


def unhex(text):
    return bytes.fromhex(text[1:])


def tensors_of(line):
    """The same of an answer that begins with `accepted`."""
    tensors = {}
    for word in line.split()[1:]:
        if ":" in word:
            name, dtype, shape, data = word.split(":")
            tensors[unhex(name).decode()] = (dtype, tuple(int(size) for size in shape.split(",")[:-1]), unhex(data))
    return tensors


def differences():
    """[(regular expression, an example)] of safetensors_differences.txt."""
    with open(os.path.join(HERE, "safetensors_differences.txt"), encoding="utf-8") as file:
        blocks = file.read().rstrip("\n").split("\n\n")[1:]
    for block in blocks:
        pattern, header, data, _ = block.split("\n")
        yield re.compile(pattern), file_of(header.replace("LONG", "n" * 5000), b"x" * int(data))


def check_differences(program):
    """That each is one: a list must not outlive what it lists."""
    known = list(differences())
    lines = ours(program, [example for _, example in known])
    stale = [pattern.pattern for (pattern, example), line in zip(known, lines)
             if not (line.startswith("refused") and pattern.search(line) and isinstance(theirs(example), dict))]
    print(f"{len(known)} differences are listed, {len(stale)} of them are none: {stale}")
    return not stale


def compare_verdicts(program, count):
    known, seen, wrong, accepted = list(differences()), collections.Counter(), [], 0
    for begin in range(0, count, 5000):
        files = [mutant(number) for number in range(begin, min(begin + 5000, count))]
        for data, line in zip(files, ours(program, files)):
            other = theirs(data)
            if line.startswith("accepted"):
                accepted += 1
                if tensors_of(line) != other:
                    wrong.append((data, line, other))
            elif isinstance(other, dict):
                reasons = [pattern.pattern for pattern, _ in known if pattern.search(line)]
                seen.update(reasons[:1])
                if not reasons:
                    wrong.append((data, line, other))
    for data, line, other in wrong[:20]:
        print(f"DIFFERENCE\n  file {data!r}\n  here {line[:300]}\n  reference {str(other)[:300]}")
    print(f"{count} mutants: {accepted} accepted by both with the same tensors, {count - accepted - sum(seen.values()) - len(wrong)} refused by both, "
          f"{sum(seen.values())} refused here alone for {len(seen)} listed reasons, {len(wrong)} differences")
    for pattern, times in seen.most_common():
        print(f"  {times:6} {pattern}")
    return accepted > count // 50 and not wrong


def sound_files():
    choose = random.Random("sound")
    for dtype, size in SIZES.items():
        yield {name: (dtype, (2, 3), choose.randbytes(6 * size)) for name in NAMES}, {"format": "pt", "ключ": "значение\n\"😀"}
        yield {"scalar": (dtype, (), choose.randbytes(size)), "empty": (dtype, (0, 5), b""), "long": (dtype, (1, 1, 1, 1, 7), choose.randbytes(7 * size))}, None
    yield {dtype: (dtype, (4,), choose.randbytes(4 * size)) for dtype, size in SIZES.items()}, {}
    yield {}, None


def reference_file(tensors, metadata):
    buffers = {name: numpy.frombuffer(data or b"\0", dtype=numpy.uint8) for name, (_, _, data) in tensors.items()}
    specs = {name: safetensors.TensorSpec(dtype=LONG_NAMES[dtype], shape=list(shape), data_ptr=buffers[name].ctypes.data, data_len=len(data))
             for name, (dtype, shape, data) in tensors.items()}
    return bytes(safetensors.serialize(specs, metadata))


def check_exchange(program):
    """What the reference wrote is read here, what is written here from that is read there."""
    cases = list(sound_files())
    written = [reference_file(*case) for case in cases]
    read = ours(program, written)
    rewritten = [unhex(line) for line in ours(program, written, "rewrite")]
    good = 0
    for (tensors, metadata), line, back in zip(cases, read, rewritten):
        header = json.loads(back[8:8 + struct.unpack("<Q", back[:8])[0]])
        same = tensors_of(line) == tensors and theirs(back) == tensors and (header.get("__metadata__") or {}) == (metadata or {})
        good += same
        if not same:
            print(f"DIFFERENCE in exchange: {[*tensors][:3]}: {line[:300]}")
    print(f"{good} of {len(cases)} files of all dtypes exchanged both ways, bit by bit")
    return good == len(cases)


def self_test(program):
    """That a difference would be seen: a file that only the reference accepts counts as refused, and other elements as other tensors."""
    accepted = file_of('{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    foreign = file_of('{"w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x")
    first, second = ours(program, [accepted, foreign])
    return (tensors_of(first) == theirs(accepted) and tensors_of(first) != theirs(accepted[:-1] + b"y") and second.startswith("refused")
            and isinstance(theirs(foreign), dict))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts")
    parser.add_argument("venv")
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        enter(arguments.venv)
    global safetensors, numpy
    import numpy
    import safetensors
    if not self_test(arguments.verdicts):
        sys.exit("self-test failed: a planted difference was not seen")
    results = [check_exchange(arguments.verdicts), check_differences(arguments.verdicts), compare_verdicts(arguments.verdicts, arguments.mutants)]
    sys.exit(0 if all(results) else 1)


main()
