#!/usr/bin/env python3
"""What the program answers to mistakes on the command line, in data, checkpoints and the environment: mistakes.py PROGRAM [--show]

Each row plants one mistake in an own copy of what it needs. The answer must be one error on stderr and nothing on stdout, the exit status, and three
texts at places of their own: what is wrong, where, and what to do about it. Rows that are planted as wrong must be noticed. --show prints the answers.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

USAGE, DATA, CHECKPOINT, MEMORY, DEVICE = 2, 3, 4, 5, 6
TINY = ["--size", "8", "--feed-forward", "8", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1", "--max-length", "16"]
STEP = "run/step-00000001"
ANY = None


class Mistake(NamedTuple):
    status: int
    what: str
    where: str
    remedy: str
    command: str      # a line for bash, in which seq2seq is the program, TINY the options of a small model
    stdin: bytes = b""


def train(words):
    return f"seq2seq train TINY --train pairs.tsv {words}"


def usage(what, where, remedy, words):
    return Mistake(USAGE, what, where, remedy, train(words))


HELP = "see seq2seq train --help"
COMMAND_LINE = [
    Mistake(USAGE, "expected a command", "train, evaluate or predict", "see seq2seq --help", "seq2seq"),
    Mistake(USAGE, "unknown argument", "'trian'", "did you mean 'train'?", "seq2seq trian"),
    Mistake(USAGE, "unknown option", "'--epoch'", "did you mean '--epochs'?", "seq2seq train --epoch 3"),
    Mistake(USAGE, "unknown option", "'--lr=1'", "did you mean '--learning-rate'?", "seq2seq train --lr=1"),
    Mistake(USAGE, "unknown option", "'--threads'", "OMP_NUM_THREADS", "seq2seq train --threads 2"),
    usage("got 4", "--vocab-size", "must be > 4", "--vocab-size 4"),
    usage("got 0", "--min-count", "must be >= 1", "--min-count 0"),
    usage("there are no pairs to validate", "--patience 3", "name them with --valid", "--patience 3"),
    Mistake(USAGE, "unknown option", "'--epochs'", "see seq2seq evaluate --help", "seq2seq evaluate --epochs 3"),
    Mistake(USAGE, "unknown option", "'--modle'", "did you mean '--model'?", "seq2seq predict --modle run"),
    Mistake(USAGE, "unknown option", "'--size'", "see seq2seq --help", "seq2seq --size 3"),
    Mistake(USAGE, "unknown argument", "'pairs.tsv'", HELP, "seq2seq train pairs.tsv"),
    Mistake(USAGE, "unknown argument", "'words.txt'", "see seq2seq predict --help", "seq2seq predict --model run words.txt"),
    Mistake(USAGE, "expected a whole number, got '1e3'", "--size", HELP, "seq2seq train --size 1e3"),
    Mistake(USAGE, "expected a whole number, got '1.5'", "--updates", HELP, "seq2seq train --updates 1.5"),
    Mistake(USAGE, "expected a whole number, got '99999999999999999999'", "--seed", HELP, "seq2seq train --seed 99999999999999999999"),
    Mistake(USAGE, "expected a number, got 'half'", "--dropout", HELP, "seq2seq train --dropout half"),
    Mistake(USAGE, "expected a number, got '0,1'", "--label-smoothing", HELP, "seq2seq train --label-smoothing 0,1"),
    Mistake(USAGE, "got none", "--size", HELP, "seq2seq train --size"),
    Mistake(USAGE, "got none", "--model", "see seq2seq predict --help", "seq2seq predict --model"),
    Mistake(USAGE, "got 'maybe'", "--resume", HELP, "seq2seq train --resume=maybe"),
    usage("got 0", "--size", "must be >= 1", "--size 0"),
    usage("got -3", "--epochs", "must be >= 0", "--epochs -3"),
    usage("got 9223372036854775807", "--batch-tokens", "must be <= 1000000000", "--batch-tokens 9223372036854775807"),
    usage("got 1001 and 1", "--encoder-layers", "must be <= 1000", "--encoder-layers 1001"),
    usage("got 0", "--decoder-layers", "must be >= 1", "--decoder-layers 0"),
    usage("got -1", "--seed", "must be >= 0", "--seed -1"),
    usage("--heads 3", "--size 8", "change one of them", "--heads 3"),
    usage("both 0", "--batch-pairs and --batch-tokens", "one must limit a batch", "--batch-pairs 0"),
    usage("got 1", "--dropout", "must be in [0, 1)", "--dropout 1"),
    usage("got -0.5", "--label-smoothing", "must be in [0, 1)", "--label-smoothing -0.5"),
    usage("got nan", "--beta2", "must be in [0, 1)", "--beta2 nan"),
    usage("got inf", "--learning-rate", "must be > 0 and < 1e30", "--learning-rate inf"),
    usage("got -1", "--clip-norm", "0: no clipping", "--clip-norm -1"),
    usage("got -0.1", "--weight-decay", "must be >= 0", "--weight-decay -0.1"),
    usage("got 'fp8'", "--precision", "must be f32 or bf16", "--precision fp8"),
    usage("got 'step'", "--schedule", "constant, linear, cosine or inverse-sqrt", "--schedule step"),
    usage("got 'some'", "--tying", "must be none, target or all", "--tying some"),
    usage("got 'tanh'", "--activation", "must be relu or gelu", "--activation tanh"),
    usage("got 'bytes'", "--source-tokens", "must be chars or words", "--source-tokens bytes"),
    usage("got 'subwords'", "--target-tokens", "must be chars or words", "--target-tokens subwords"),
    usage("got 'gpu'", "--device", "must be cpu, cuda or auto", "--device gpu"),
    usage("got an empty name", "--out", "must name a folder", "--out ''"),
    usage("holds a run already", "--out run", "go on with it (--resume), or choose another folder", "--out run"),
    usage("has 4 tokens, more than the 3", "[batches] pair", "raise the limit or drop the pair", "--out new --batch-tokens 3"),
    Mistake(USAGE, "is required", "--model", "the folder of a run, or of one checkpoint", "seq2seq predict"),
    Mistake(USAGE, "got 0", "--batch-lines", "must be >= 1", "seq2seq predict --model run --batch-lines 0"),
]


def pairs(what, where, remedy, content):
    """A file of training pairs with this in it."""
    return Mistake(DATA, what, where, remedy, f"printf '{content}' >bad.tsv; seq2seq train TINY --train bad.tsv --out new")


def stdin(what, where, remedy, content):
    return Mistake(DATA, what, where, remedy, "seq2seq predict --model run", content)


def dictionary(what, where, remedy, content):
    return Mistake(DATA, what, where, remedy, f"printf '{content}' >bad.dict; seq2seq train TINY --cmudict bad.dict --out new")


READABLE, ONE_PAIR, UTF8 = "check the path and its permissions", "write one source<TAB>target pair a line", "convert the file to UTF-8"
DATA_FILES = [
    Mistake(DATA, "No such file or directory", "[missing.tsv]", READABLE, "seq2seq train --train missing.tsv --out new"),
    Mistake(DATA, "Is a directory", "[run]", READABLE, "seq2seq train --train run --out new"),
    Mistake(DATA, "Not a directory", "[pairs.tsv/x]", READABLE, "seq2seq train --train pairs.tsv/x --out new"),
    Mistake(DATA, "No such file or directory", "[valid.tsv]", READABLE, train("--valid valid.tsv --out new")),
    Mistake(DATA, "No such file or directory", "[test.tsv]", READABLE, "seq2seq evaluate --model run --test test.tsv"),
    Mistake(DATA, "No such file or directory", "[words.dict]", READABLE, "seq2seq train --cmudict words.dict --out new"),
    Mistake(DATA, "File name too long", "[xxxx", READABLE, 'seq2seq train --train "$(printf x%.0s {1..300})" --out new'),
    pairs("got an empty file", "[bad.tsv]", ONE_PAIR, ""),
    pairs("got blank lines only", "[bad.tsv]", ONE_PAIR, r"\n  \n"),
    pairs("expected a tab", "[bad.tsv:2]", ONE_PAIR, r"a\tb\nab\n"),
    pairs("got a line without one", "[bad.tsv:1]", ONE_PAIR, r"a,b\n"),
    pairs("expected one tab, got more", "[bad.tsv:1]", "each further target of a source on a line of its own", r"a\tb\tc\n"),
    pairs("got an empty source", "[bad.tsv:2]", ONE_PAIR, r"a\tb\n\tb\n"),
    pairs("got an empty target", "[bad.tsv:3]", ONE_PAIR, r"a\tb\n\na\t  \n"),
    pairs("got byte 0xFF at byte offset 1", "[bad.tsv:2]", UTF8, r"a\tb\na\xff\tb\n"),
    pairs("got byte 0xC0 at byte offset 2", "[bad.tsv:1]", UTF8, r"a\t\xc0\x80\n"),
    pairs("got byte 0xED at byte offset 0", "[bad.tsv:1]", UTF8, r"\xed\xa0\x80\tb\n"),
    pairs("got byte 0xE2 at byte offset 2", "[bad.tsv:1]", UTF8, r"a\t\xe2\x82\n"),
    pairs("got a NUL byte at byte offset 1", "[bad.tsv:2]", "UTF-16 and binary files have such bytes", r"a\tb\na\0\tb\n"),
    pairs("got a NUL byte at byte offset 1", "[bad.tsv:1]", UTF8, r"a\0\t\0b\0\n\0"),
    pairs("got 20 in the source and 1 in the target", "[bad.tsv:1]", "raise max_length (--max-length)", r"aaaaabbbbbcccccddddd\tb\n"),
    pairs("got 1 in the source and 17 in the target", "[bad.tsv:2]", "shorten the pair", r"a\tb\na\tabcdefghijklmnopq\n"),
    Mistake(DATA, "expected lines of at most 1048576 bytes", "[bad.tsv:1]", "is this a text file?",
            "head -c 2000000 /dev/zero | tr '\\0' a >bad.tsv; seq2seq train --train bad.tsv --out new"),
    Mistake(DATA, "expected a tab", "[words.txt:1]", ONE_PAIR, "echo hello >words.txt; seq2seq evaluate --model run --test words.txt"),
    dictionary("got a word alone", "[bad.dict:2]", "add the phones or delete the line", r"abbey AE B IY\nable\n"),
    dictionary("got 'AE1'", "[bad.dict:1]", "use an edition without stress digits", r"abbey AE1 B IY\n"),
    dictionary("got no usable word", "[bad.dict]", "check the path", r"123 W AH N\n"),
    Mistake(DATA, "has 13 tokens on a side, expected at most 12", "counterattack'", "raise --max-length",
            "echo 'counterattack K AW N T' >long.dict; seq2seq train TINY --cmudict long.dict --max-length 12 --out new"),
    Mistake(DATA, "trained on files", "[evaluate]", "--test FILE", "seq2seq evaluate --model run"),
    Mistake(DATA, "are not those of the run: 3 pairs", "[resume] the training pairs", "name the same file with --train",
            "cp -r run mine; head -3 pairs.tsv >other.tsv; seq2seq train --train other.tsv --out mine --resume"),
    Mistake(DATA, "No such file or directory", "[pairs.tsv]", READABLE,
            "cp -r run mine; mv pairs.tsv moved.tsv; seq2seq train --out mine --resume"),
    stdin("got byte 0xFF at byte offset 1", "[stdin:1]", UTF8, b"a\xff\n"),
    stdin("got a NUL byte", "[stdin:1]", UTF8, b"\0\n"),
    stdin("a source of 17 tokens is longer than the model's", "[stdin:1]", "shorten it", b"abcdefghijklmnopq\n"),
    stdin("expected lines of at most 1048576 bytes", "[stdin:1]", "is this a text file?", b"a" * 1100000),
    Mistake(DATA, "Bad file descriptor", "[stdin]", "expected a readable text file", "seq2seq predict --model run <&-"),
]


def damaged(what, where, remedy, how, model="mine/step-*"):
    """A checkpoint on which `how`, in its folder, was done. Of that, the optimizer's file is not read; of a run's folder ("mine") it is."""
    return Mistake(CHECKPOINT, what, where, remedy, f"cp -r run mine; cd mine/step-*; {how}; cd ../..; seq2seq evaluate --model {model} --test pairs.tsv")


AGAIN, OLDER, RESUME = "copy it again", "use an older", "drop the flag, or start a new run with another --out"
CHECKPOINTS = [
    Mistake(CHECKPOINT, "is no folder", "[nowhere]", "check the path", "seq2seq predict --model nowhere"),
    Mistake(CHECKPOINT, "is no folder", "[pairs.tsv]", "check the path", "seq2seq predict --model pairs.tsv"),
    Mistake(CHECKPOINT, "is no folder", "[xxxx", "check the path", 'seq2seq predict --model "$(printf x%.0s {1..300})"'),
    Mistake(CHECKPOINT, "holds no complete checkpoint", "[empty]", "name the folder of a run", "mkdir empty; seq2seq evaluate --model empty"),
    Mistake(CHECKPOINT, "is no folder", "[nowhere]", "check the path", "seq2seq train --train pairs.tsv --out nowhere --resume"),
    Mistake(CHECKPOINT, "holds no complete checkpoint", "[mine]", "name the folder of a run",
            f"mkdir mine; cp -r {STEP} mine/step-00000001.tmp-1; seq2seq train --train pairs.tsv --out mine --resume"),
    Mistake(CHECKPOINT, "none of the 1 checkpoints can be loaded", "weights.safetensors] has 100 bytes", "bring one back from a copy, or start a new run",
            f"cp -r run mine; truncate -s 100 mine/step-*/weights.safetensors; seq2seq train --train pairs.tsv --out mine --resume"),
    damaged("has 100 bytes, the manifest says", "/weights.safetensors]", AGAIN, "truncate -s 100 weights.safetensors"),
    damaged("its hash differs", "/weights.safetensors] is damaged in 1 tensors, the first", AGAIN,
            r"printf '\x55' | dd of=weights.safetensors bs=1 seek=4000 conv=notrunc status=none"),
    damaged("its hash differs", "/optimizer.safetensors] is damaged", "remove this checkpoint to go on from an older one",
            r"printf '\x55' | dd of=optimizer.safetensors bs=1 seek=20 conv=notrunc status=none", model="mine"),
    damaged("the checkpoint is incomplete", "/optimizer.safetensors] is missing", AGAIN, "rm optimizer.safetensors", model="mine"),
    damaged("holds no complete checkpoint", "step-00000001]", "name the folder of a run", "rm manifest.json"),
    damaged("no JSON (byte 0 of the file)", "/manifest.json] manifest", "copy the file again", "echo weights >manifest.json"),
    damaged("no JSON (byte 100 of the file)", "/manifest.json] manifest", "copy the file again", "truncate -s 100 manifest.json"),
    damaged("nested deeper than 32 levels", "/manifest.json] manifest", "copy the file again", "printf '[%.0s' {1..40} >manifest.json"),
    damaged('key "a" occurs twice', "/manifest.json] manifest", "copy the file again", """echo '{"a":1,"a":2}' >manifest.json"""),
    damaged("expected it to be there", "/manifest.json] field 'format'", OLDER, """echo '{"a": 1}' >manifest.json"""),
    damaged("expected 'libtrain checkpoint'", "/manifest.json] field 'format'", OLDER, "sed -i 's/libtrain checkpoint/torch checkpoint/' manifest.json"),
    damaged("got 99: written by another version", "/manifest.json] field 'version'", OLDER, "sed -i 's/\"version\": [0-9]*/\"version\": 99/' manifest.json"),
    damaged("was edited: its hash differs", "/manifest.json] is damaged", OLDER, "sed -i 's/\"epochs\": 1/\"epochs\": 7/' manifest.json"),
    damaged("is no checkpoint", "/manifest.json] is missing", "name a folder that has one", "rm manifest.json; ln -s /dev/null manifest.json"),
    Mistake(USAGE, "--size 16 contradicts the run", "[resume]", RESUME, "cp -r run mine; seq2seq train --out mine --resume --size 16"),
    Mistake(USAGE, '--tying "all" contradicts the run, which was started with "target"', "[resume]", RESUME,
            "cp -r run mine; seq2seq train --out mine --resume --tying all"),
    Mistake(USAGE, "--post-norm true contradicts the run", "[resume]", RESUME, "cp -r run mine; seq2seq train --out mine --resume --post-norm"),
]

LARGE_BATCH = ("for i in {1..125}; do cat pairs.tsv; done >many.tsv; "
               "seq2seq train TINY --size 64 --train many.tsv --batch-pairs 1500 --out new")
FULL, WRITE = "is the disk full?", "Write them elsewhere"
ENVIRONMENT = [
    Mistake(DEVICE, "no usable CUDA device", "--device cuda", "use --device cpu", "CUDA_VISIBLE_DEVICES= seq2seq train --device cuda"),
    Mistake(USAGE, "got 'avx9000'", "[device] LIBTRAIN_ISA", "unset it, and the best is chosen", "LIBTRAIN_ISA=avx9000 " + train("--out new")),
    Mistake(MEMORY, "out of memory", "--max-length", "use a smaller model", "ulimit -v 4000000; " + train("--out new --max-length 1000000000")),
    usage("got -1", "--memory-limit", "must be >= 0", "--memory-limit -1"),
    Mistake(MEMORY, "than the 20.0 MiB available", "[memory_plan] the largest batch (1500 pairs, ", "use smaller batches: --batch-tokens ",
            LARGE_BATCH + " --memory-limit 20"),
    Mistake(MEMORY, "than the 17.0 MiB available", "[memory_plan] the largest batch (", "use a smaller model or shorter texts", LARGE_BATCH + " --memory-limit 17"),
    Mistake(DATA, FULL, "[stdout]", WRITE, "echo ab | seq2seq predict --model run >/dev/full"),
    Mistake(DATA, "cannot write the results", "[stdout]", WRITE, "seq2seq evaluate --model run --test pairs.tsv >/dev/full"),
    Mistake(DATA, "cannot write", "[stdout] ", FULL, "seq2seq --help >/dev/full"),
    Mistake(DATA, "cannot make the folder: File exists", "--out pairs.tsv/run: [pairs.tsv]", "move it away", train("--out pairs.tsv/run")),
    Mistake(DATA, "cannot make the folder: File exists", "--out pairs.tsv: ", "choose another place", train("--out pairs.tsv")),
    Mistake(DATA, "cannot make the folder", "--out /proc/run: [/proc/run]", ANY, train("--out /proc/run")),
    Mistake(DATA, "File name too long", "--out xxx", "choose a shorter name", train('--out "$(printf x%.0s {1..300})"')),
    Mistake(DATA, "File exists; something else has that name", "--out circle/run: [circle]", "move it away", "ln -s circle circle; " + train("--out circle/run")),
    Mistake(DATA, "cannot write: File too large", "weights.safetensors]", "more than a file may have there", "ulimit -f 1; " + train("--out new --size 64")),
    Mistake(DATA, "Input/output error", "[/proc/self/mem]", READABLE, "seq2seq train --train /proc/self/mem --out new"),
]


class Scene:
    """A folder with pairs of texts, and a run of one update on them."""

    def __init__(self, program, place):
        self.program, self.place, self.template = program, place, place + "/template"
        os.mkdir(self.template)
        with open(self.template + "/pairs.tsv", "w", encoding="utf-8") as file:
            file.write("".join(f"{a}{b}\t{b}{a}{a}\n" for a in "abc" for b in "abcd"))
        made = self.bash(self.template, train("--out run --epochs 1"))
        if made.returncode:
            sys.exit(f"the run to begin with failed: {made.stderr.decode()}")

    def bash(self, folder, command, data=b""):
        words = command.replace("seq2seq ", f"'{self.program}' ").replace("TINY", " ".join(TINY)) + " "
        words = re.sub(r"^seq2seq$", f"'{self.program}'", words.strip())
        script = 'set -o pipefail; ' + words
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        return subprocess.run(["bash", "-c", script], cwd=folder, input=data, capture_output=True, timeout=60, env=environment)

    def answer(self, number, mistake):
        folder = f"{self.place}/{number}"
        os.mkdir(folder)
        for name in os.listdir(self.template):
            os.symlink(f"{self.template}/{name}", f"{folder}/{name}")
        if "pairs.tsv" in mistake.command and "mv " in mistake.command or "cp -r run" in mistake.command:
            os.unlink(folder + "/run")
            shutil.copytree(self.template + "/run", folder + "/run")
        done = self.bash(folder, mistake.command, mistake.stdin)
        shutil.rmtree(folder)
        return done


def fault_of(mistake, done):
    """What is wrong with the answer, or None."""
    text = done.stderr.decode(errors="replace")
    errors = [part for part in re.split(r"^(?=error: )", text, flags=re.M) if part.startswith("error: ")]
    if done.returncode != mistake.status:
        return f"status {done.returncode}, expected {mistake.status}: {text}"
    if len(errors) != 1 or done.stdout:
        return f"expected one error and nothing on stdout: {text}{done.stdout.decode(errors='replace')}"
    rest = errors[0]
    for column in ("what", "where", "remedy"):
        expected = getattr(mistake, column)
        if expected is ANY and column == "remedy":
            expected = "; "
        if not expected or expected not in rest:
            return f"expected {column}, '{expected}', in: {errors[0]}"
        rest = rest.replace(expected, "\n", 1)
    return None


def planted(good, done):
    """Rows that expect something else, each of which must be noticed."""
    return [good._replace(**{column: value}) for column, value in
            (("status", DATA), ("what", "got 7"), ("where", "--heads"), ("remedy", "must be >= 2"), ("remedy", good.what), ("remedy", ""))] if done else []


def undocumented(program):
    """Statuses that --help lists and the table of the guide does not, or the other way round."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout.partition("Exit status:\n")[2]
    told = set(re.findall(r"\d+", " ".join(line[:13] for line in text.splitlines())))
    guide = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "guide.md")
    with open(guide, encoding="utf-8") as file:
        rows = [line.rsplit("|", 2)[1] for line in file.read().partition("## When something goes wrong")[2].partition("##")[0].splitlines() if line[:1] == "|"]
    listed = set(re.findall(r"\d+", " ".join(row for row in rows if "`" not in row)))
    return told ^ listed


def main():
    program = os.path.realpath(sys.argv[1])
    rows = COMMAND_LINE + DATA_FILES + CHECKPOINTS + ENVIRONMENT
    place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        scene = Scene(program, place)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda row: scene.answer(*row), enumerate(rows)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    faults = [f"{mistake.command}\n  {fault}" for mistake, done in zip(rows, answers) if (fault := fault_of(mistake, done))]
    if "--show" in sys.argv:
        for mistake, done in zip(rows, answers):
            print(f"$ {mistake.command}\n{done.stderr.decode(errors='replace').strip()}   [{done.returncode}]\n")
    if len({(row.status, row.what, row.where, row.remedy, row.command) for row in rows}) < len(rows):
        faults.append("two rows are the same")
    if (statuses := undocumented(program)):
        faults.append(f"--help and docs/guide.md differ in the statuses {sorted(statuses)}")
    good = rows.index(usage("got 0", "--size", "must be >= 1", "--size 0"))
    missed = [row for row in planted(rows[good], answers[good]) if not fault_of(row, answers[good])]
    faults += [f"a planted row was not noticed: {row}" for row in missed]
    print("\n".join(faults) + f"{len(rows) - len(faults)} of {len(rows)} mistakes answered with what, where and remedy; "
          f"{len(planted(rows[good], answers[good])) - len(missed)} planted rows noticed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
