"""Checks that what README.md and docs/*.md show is true.

    python3 check_docs.py REPOSITORY WORK_FOLDER CMAKE PREFIX [CMAKE_ARGUMENT...]

PREFIX is where the library is installed. Every fenced block must say what it is:
    cpp run         a whole program: compiled, run in an empty folder, must return 0
    cpp compile     statements: compiled as the body of a function behind `#include <libtrain/libtrain.h>` and
                    `using namespace libtrain;` (its own #include lines are moved to the top)
    cpp continue    statements that go on in the same function as the block before
    cpp from FILE   an excerpt: must stand in FILE of the repository, but for indentation and lines that are only "…"
    bash            commands: scripts and files of the repository, programs in build folders and LIBTRAIN_* options
                    must exist
    text, json, cmake, tsv
A plain cpp block, or any other tag, is a violation: so nothing that looks like code escapes. Relative links must lead
somewhere, their #anchors to a heading of a document, and the numbers of mistakes and of planted bugs must be those of their
tables.
"""
import collections
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from counts import check_counts

PLAIN = {"text", "json", "cmake", "tsv"}
RUNNERS = {"bash", "sh", "source", ".", "python3", "sudo", "env", "time"}  # words that stand before the program


class Block(NamedTuple):
    document: str
    line: int  # of the first line inside
    tag: str
    text: str

    def at(self):
        return f"{self.document}:{self.line}"


def parse(document, text):
    """(blocks, violations, prose: the text outside of blocks)"""
    blocks, violations, prose, fence, tag, start, lines = [], [], [], None, "", 0, []
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r"\s*(`{3,}|~{3,})\s*(.*)$", line)
        if fence is None and mark:
            fence, tag, start, lines = mark.group(1), mark.group(2).strip(), number + 1, []
        elif fence is not None and mark and mark.group(1).startswith(fence) and not mark.group(2):
            blocks.append(Block(document, start, tag, "\n".join(lines)))
            fence = None
        elif fence is not None:
            lines.append(line)
        else:
            prose.append(line)
    if fence is not None:
        violations.append(f"{document}:{start}: the block is not closed")
    return blocks, violations, "\n".join(prose)


def check_tags(blocks):
    for before, block in zip([None, *blocks], blocks):
        if block.tag in ("cpp run", "cpp compile", "bash") or block.tag in PLAIN or block.tag.startswith("cpp from "):
            continue
        if block.tag == "cpp continue":
            if not before or before.tag not in ("cpp compile", "cpp continue") or before.document != block.document:
                yield f"{block.at()}: 'cpp continue' does not follow a 'cpp compile'"
        else:
            yield f"{block.at()}: tag '{block.tag}' says not how to check this block (see tests/docs/check_docs.py)"


def squeeze(text):
    return [" ".join(line.split()) for line in text.split("\n") if line.strip()]


def check_excerpt(root, block):
    path = os.path.join(root, block.tag.removeprefix("cpp from ").strip())
    if not os.path.isfile(path):
        yield f"{block.at()}: excerpt of a file that is not there: {block.tag}"
        return
    with open(path, encoding="utf-8") as file:
        source = squeeze(file.read())
    place = 0
    for piece in "\n".join(squeeze(block.text)).split("\n…\n"):
        lines = piece.strip("…\n").split("\n")
        found = [i for i in range(place, len(source) - len(lines) + 1) if source[i:i + len(lines)] == lines]
        if not found:
            yield f"{block.at()}: not an excerpt of {block.tag.removeprefix('cpp from ')}: {lines[0]}"
            return
        place = found[0] + len(lines)


def commands_of(text):
    """The commands of a bash block as lists of words."""
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        command = []
        for word in lexer:
            if set(word) <= set("();|&"):
                yield command
                command = []
            else:
                command.append(word)
        yield command


def missing_program(root, path):
    """Whether no folder of the repository builds the program at build…/folder/name, or at build/…/folder/name."""
    if not path.partition("/")[2]:
        return False
    for skipped in (1, 2):  # folders of the build
        folder, name = os.path.split("/".join(path.split("/")[skipped:]))
        lists = os.path.join(root, folder, "CMakeLists.txt")
        if name and os.path.isfile(lists):
            with open(lists, encoding="utf-8") as file:
                if re.search(rf"\b{re.escape(name)}\b", file.read()):
                    return False
    return True


def missing_file(root, word, is_command):
    path = word.removeprefix("./")
    if "://" in word or word.startswith(("/", "~", "$", "-")):
        return False
    if re.match(r"build[\w-]*(/|$)", path):
        return missing_program(root, path)
    ours = path.split("/")[0] in os.listdir(root)
    script = is_command and (path.endswith((".sh", ".py")) or "/" in path)
    return (ours or script) and not os.path.exists(os.path.join(root, path))


def check_commands(root, block, options):
    for command in commands_of(block.text):
        while command and (command[0] in RUNNERS or re.fullmatch(r"\w+=.*", command[0])):
            command = command[1:]
        for index, word in enumerate(command):
            option = re.match(r"-D(LIBTRAIN_\w+)", word)
            if option and option.group(1) not in options:
                yield f"{block.at()}: there is no option {option.group(1)}"
            elif missing_file(root, word.rpartition("=")[2] if word.startswith("--") else word, index == 0):
                yield f"{block.at()}: {word} is not in the repository"


def anchors(prose):
    """What GitHub makes of a document's headings, for links to them."""
    seen = collections.Counter()
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)  # of a link, its text
        anchor = re.sub(r"[^\w -]", "", words.lower()).replace(" ", "-")
        yield f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
        seen[anchor] += 1


def prose_of(root, document, documents):
    text = documents.get(document)
    if text is None:
        with open(os.path.join(root, document), encoding="utf-8") as file:
            text = file.read()
    return parse(document, text)[2]


def check_links(root, document, prose, documents):
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose):
        if re.match(r"\w+:", path):
            continue
        target = os.path.normpath(os.path.join(os.path.dirname(document), path)) if path else document
        if not os.path.exists(os.path.join(root, target)):
            yield f"{document}: link to {path} leads nowhere"
        elif anchor and target.endswith(".md") and anchor not in anchors(prose_of(root, target, documents)):
            yield f"{document}: no heading of {target} makes the anchor #{anchor}"


def read_documents(root):
    names = ["README.md"]
    if os.path.isdir(os.path.join(root, "docs")):
        names += sorted("docs/" + name for name in os.listdir(os.path.join(root, "docs")) if name.endswith(".md"))
    documents = {}
    for name in names:
        if os.path.isfile(os.path.join(root, name)):
            with open(os.path.join(root, name), encoding="utf-8") as file:
                documents[name] = file.read()
    return documents


def check_text(root, documents):
    """(blocks of all documents, violations that show without compiling)"""
    with open(os.path.join(root, "CMakeLists.txt"), encoding="utf-8") as file:
        options = set(re.findall(r"\bLIBTRAIN_\w+", file.read()))
    all_blocks, violations = [], [] if "README.md" in documents else ["README.md is not there"]
    for document, text in documents.items():
        blocks, found, prose = parse(document, text)
        violations += found + list(check_tags(blocks)) + list(check_links(root, document, prose, documents))
        for block in blocks:
            if block.tag.startswith("cpp from "):
                violations += check_excerpt(root, block)
            elif block.tag == "bash":
                violations += check_commands(root, block, options)
        all_blocks += blocks
    return all_blocks, violations


def fragments_source(blocks):
    """One translation unit with a function for each 'cpp compile' block and its continuations."""
    headers, body, is_open = ["#include <libtrain/libtrain.h>"], [], False
    for block in blocks:
        if block.tag not in ("cpp compile", "cpp continue"):
            continue
        if block.tag == "cpp compile":
            body += ["}"] * is_open + [f"[[maybe_unused]] static void fragment_{len(body)}() {{"]
            is_open = True
        body.append(f'#line {block.line} "{block.document}"')
        for line in block.text.split("\n"):
            is_include = re.match(r"\s*#\s*include\b", line) is not None
            headers += [line] * is_include
            body.append("" if is_include else line)
    return "\n".join([*headers, "using namespace libtrain;", *body, *["}"] * is_open, ""])


def write_project(folder, blocks):
    """Writes a CMake project with a target for each program and one for the fragments: {target: block or None}."""
    sources = {"fragments": fragments_source(blocks)}
    targets = {"fragments": None}
    for block in blocks:
        if block.tag == "cpp run":
            target = "program_" + re.sub(r"\W", "_", block.at())
            sources[target] = f'#line {block.line} "{block.document}"\n{block.text}\n'
            targets[target] = block
    lines = ["cmake_minimum_required(VERSION 3.25)", "project(snippets LANGUAGES CXX)",
             "find_package(libtrain REQUIRED)", "add_library(fragments OBJECT fragments.cpp)"]
    lines += [f"add_executable({target} {target}.cpp)" for target, block in targets.items() if block]
    lines += [f"target_link_libraries({target} PRIVATE libtrain::libtrain)" for target in targets]
    texts = {target + ".cpp": text for target, text in sources.items()}
    texts["CMakeLists.txt"] = "\n".join(lines)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    return targets


def run_command(*command, cwd=None):
    """The output of a command that failed, or ''."""
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300)
    except subprocess.TimeoutExpired:
        return "took more than 300 seconds"
    return done.stdout + f"\n(exit status {done.returncode})" if done.returncode else ""


def check_code(blocks, folder, cmake, arguments):
    """Compiles and runs what the blocks show."""
    source, build = os.path.join(folder, "source"), os.path.join(folder, "build")
    targets = write_project(source, blocks)
    failure = run_command(cmake, "-S", source, "-B", build, *arguments)
    if failure:
        return ["the snippets cannot be configured:\n" + failure]
    violations = []
    for target, block in targets.items():
        failure = run_command(cmake, "--build", build, "--target", target)
        if failure:
            violations.append(f"{block.at() if block else 'a fragment'} does not compile:\n{failure}")
        elif block:
            with tempfile.TemporaryDirectory() as empty:
                failure = run_command(os.path.join(build, target), cwd=empty)
            violations += [f"{block.at()}: the program fails:\n{failure}"] if failure else []
    return violations


# (what is planted, the document, part of the one violation expected)
PLANTS = [
    ("a plain cpp block", "```cpp\nint x;\n```", "tag 'cpp'"),
    ("an untagged block", "```\nls\n```", "tag ''"),
    ("another shell", "```sh\nls\n```", "tag 'sh'"),
    ("a tilde fence", "~~~c++\nint x;\n~~~", "tag 'c++'"),
    ("an open block", "```bash\nls\n", "not closed"),
    ("a continuation of nothing", "```cpp continue\nint x;\n```", "does not follow"),
    ("a missing script", "```bash\nbash tests/planted.sh --fast\n```", "tests/planted.sh"),
    ("a missing script behind a pipe", "```bash\nA=1 true | python3 planted.py\n```", "planted.py"),
    ("a missing file as argument", "```bash\ncat \\\n  docs/planted.md\n```", "docs/planted.md"),
    ("a program that nothing builds", "```bash\nbuild/tests/planted_program --help\n```", "build/tests/planted_program"),
    ("a program that nothing builds, in a folder within build", "```bash\nbuild/bench/bench/planted_bench\n```", "bench/planted_bench"),
    ("an unknown option", "```bash\ncmake -S . -B build -DLIBTRAIN_PLANTED=ON\n```", "LIBTRAIN_PLANTED"),
    ("a dead link", "see [there](docs/planted.md#top)", "docs/planted.md"),
    ("a dead anchor", "# Top\n[down](#planted)", "#planted"),
    ("a dead anchor of another document", "[guide](docs/guide.md#planted)", "docs/guide.md makes the anchor #planted"),
    ("a heading within a block", "```text\n# planted\n```\n[up](#planted)", "#planted"),
    ("an outdated excerpt", "```cpp from libtrain/error.h\nstruct Planted {\n```", "not an excerpt"),
    ("an excerpt of nothing", "```cpp from libtrain/planted.h\nint x;\n```", "not there"),
]
SOUND = """
# A heading: `code`, [a link](docs/guide.md#guide) and more
## Twice
## Twice
[up](#a-heading-code-a-link-and-more) [second](#twice-1) [self](README.md#twice)
[home](https://example.org#top) [build](CMakeLists.txt#top)
```bash
git clone https://example.org/libtrain && cd libtrain   # get docs/planted.md
A=1 bash tests/run.sh --train=my/words.tsv > out.txt
cmake -S . -B build-x -DLIBTRAIN_TESTS=OFF; ./build-x/tests/libtrain_tests "a name"; build/bench/bench/op_bench
```
```cpp from libtrain/error.h
/// Base of all exceptions of the library.
…
  using Error::Error;
```
```cpp run
#include <libtrain/error.h>
int main() { return libtrain::Error("x").what()[0] == 'x' ? 0 : 1; }
```
```cpp compile
#include <string>
std::string name = "x";
```
```cpp continue
name += "y";
```
"""
BROKEN = """
```cpp run
int main() { return 3; }
```
```cpp compile
int x = planted;
```
"""


def require(condition, message):
    if not condition:
        sys.exit("self-test failed: " + message)


def self_test(root, folder, cmake, arguments):
    for what, text, expected in PLANTS:
        seen = check_text(root, {"README.md": text})[1]
        require(len(seen) == 1 and expected in seen[0], f"{what}: {seen}")
    seen = list(check_counts(root, {"README.md": "1 answered with what, where and remedy"}))
    require(len(seen) == 1 and "answered" in seen[0], f"a wrong number: {seen}")
    blocks, seen = check_text(root, {"README.md": SOUND})
    require(not seen and len(blocks) == 5, f"a sound document: {seen}")
    seen = check_code(check_text(root, {"README.md": SOUND})[0], os.path.join(folder, "sound"), cmake, arguments)
    require(not seen, f"sound code: {seen}")
    seen = check_code(check_text(root, {"README.md": BROKEN})[0], os.path.join(folder, "broken"), cmake, arguments)
    require(len(seen) == 2 and "README.md:6" in seen[0] and "exit status 3" in seen[1], f"broken code: {seen}")


def main():
    root, folder, cmake, prefix, *arguments = sys.argv[1:]
    arguments = [f"-DCMAKE_PREFIX_PATH={prefix}", *arguments]
    self_test(root, folder, cmake, arguments)
    documents = read_documents(root)
    blocks, violations = check_text(root, documents)
    violations += check_counts(root, documents)
    violations += check_code(blocks, os.path.join(folder, "documents"), cmake, arguments)
    for violation in violations:
        print(violation)
    print(f"docs: {len(blocks)} blocks, {len(violations)} violations")
    sys.exit(1 if violations else 0)


main()
