"""What the shape checks share: the files of the repository, C++ text without comments, the report, the self-test."""
import os
import re
import sys

SKIPPED = 77  # CTest's SKIP_RETURN_CODE for these tests
TEXT = (".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".cmake", ".txt", ".in", ".md")
CODE = (".h", ".cpp", ".cu", ".cuh")


def read_tree(root):
    """{path relative to root: text} of all files written by hand; build trees and hidden folders are left out."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "build", "__pycache__"))]
        for name in names:
            if name.endswith(TEXT):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    files[os.path.relpath(path, root)] = file.read()
    return files


def is_public_header(path):
    """The headers that are installed: all of libtrain/, and the contracts of kernels/ without the implementations."""
    return path.endswith(".h") and (path.startswith("libtrain/") or re.fullmatch(r"kernels/[^/]+", path) is not None)


_TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def without_comments(text, keep_strings=True):
    """C++ text with comments (and string literals, if asked) blanked out; line numbers stay."""
    def blank(match):
        token = match.group()
        if token[0] != "/" and keep_strings:
            return token
        quotes = '""' if token[0] != "/" else " "
        return quotes + "\n" * token.count("\n")
    return _TOKENS.sub(blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def skip(reason):
    print("skipped: " + reason)
    sys.exit(SKIPPED)


def require(condition, message):
    """Ends a self-test that did not see what it planted."""
    if not condition:
        sys.exit("self-test failed: " + message)


def finish(name, violations, checked):
    """Prints the outcome and ends the process with it."""
    for violation in violations:
        print(violation)
    print(f"{name}: {checked}, {len(violations)} violations")
    sys.exit(1 if violations else 0)
