"""Checks that clang-format would change nothing: python3 format.py REPOSITORY CLANG_FORMAT"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tree

RELEASE = 14  # layouts differ from release to release; this is Debian 12's


def release_of(clang_format):
    text = subprocess.run([clang_format, "--version"], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"version (\d+)", text).group(1))


def unformatted(clang_format, root, paths):
    """Those of `paths` (relative to root) that clang-format would change, by the .clang-format of `root`."""
    command = [clang_format, "--dry-run", "--style=file", *paths]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return sorted(set(re.findall(r"^([^\s:]+):\d+:\d+: warning: ", done.stderr, re.MULTILINE)))


def self_test(clang_format, root):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.join(root, ".clang-format"), folder)
        for name, text in {"planted.h": "int  planted( ) ;\n", "sound.h": "int sound();\n"}.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        seen = unformatted(clang_format, folder, ["planted.h", "sound.h"])
        tree.require(seen == ["planted.h"], f"expected planted.h to be reported, got {seen}")


def main():
    root, clang_format = sys.argv[1:]
    if release_of(clang_format) != RELEASE:
        tree.skip(f"clang-format {release_of(clang_format)} found; the layout is that of release {RELEASE}")
    self_test(clang_format, root)
    paths = sorted(path for path in tree.read_tree(root) if path.endswith((".h", ".cpp")))
    violations = [f"{path}: run clang-format -i" for path in unformatted(clang_format, root, paths)]
    tree.finish("format", violations, f"{len(paths)} files")


main()
