#!/usr/bin/env python3
"""Tells Doxygen what this project's headers mean: doxygen_filter.py HEADER writes the header as Doxygen wants it.

- `int64_t rows;  // text` documents rows, and goes on in comment lines below that stand as far to the right.
- A comment documents the declaration below it, all names in that (`double beta1 = 0.9, beta2 = 0.98;`), and overloads that follow at once.
- The comment that a file begins with is about the file; #pragma once stands where Doxygen wants to be told.
- <name> in a comment is text, no tag; lines of a comment that stand further in keep to themselves.
"""
import re
import sys

TRAILING = re.compile(r"^(?P<code>.*?[;,{}\w)])(?P<space>\s+)//(?P<text> .*)$")
CONTINUED = re.compile(r"^(?P<space>\s{12,})//(?P<text> .*)$")
ONE = r"\w+(?: = [^,;(){}]+)?"
SEVERAL = re.compile(rf"^(?P<space>\s+)(?P<type>(?:const )?[\w:]+(?:<[^;()]*>)?) (?P<names>{ONE}(?:, {ONE})+);(?P<rest>.*)$")
SPLIT = "; /*and*/ "  # between declarations that were one


def depth_of(line):
    """By how many braces the line opens more than it closes, outside comments and strings."""
    code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])\'', "", line.split("//")[0])
    return code.count("{") - code.count("}")


def plain(comment):
    """Tags, commands and links that are none, and the line ends that are meant."""
    comment = re.sub(r"<(/?[\w ,.:*&…-]+)>", r"\\<\1\\>", comment)
    comment = comment.replace("@", r"\@").replace("#", r"\#").replace("%", r"\%")
    return re.sub(r"^(\s*///) {3,}(.*)$", r"\1 \\n&emsp;\2 \\n", comment)


def split(line):
    """`T a, b;  ///< text` as two declarations in the same line, each with the text."""
    match = SEVERAL.match(line)
    if not match or match["type"] in ("return", "using", "friend"):
        return line
    comment = match["rest"].strip().removeprefix("///<").strip()
    between = f"; /**< {comment} */ /*and*/ " if comment else SPLIT
    return match["space"] + between.join(f"{match['type']} {name}" for name in match["names"].split(", ")) + ";" + match["rest"]


def translated(lines):
    for number, line in enumerate(lines):
        if line == "#pragma once" and number > 0:
            yield r"/// \file"
        elif line.lstrip().startswith("///"):
            yield plain(line)
        elif (match := TRAILING.match(line)) and "//" not in match["code"] and not re.match(r"\s*(#|}\s)", line):
            yield f"{match['code']}{match['space']}///<{plain(match['text'])}"
        elif match := CONTINUED.match(line):
            yield f"{match['space']}///<{plain(match['text'])}"
        else:
            yield line


def is_scope(line):
    return re.match(r"^\s*(class|struct|namespace|enum|union|extern)\b", line) is not None


def function_at(lines, i):
    """Name of the function whose declaration begins at line i; None where something else does."""
    text = " ".join(line.split("//")[0] for line in lines[i:i + 4])
    text = re.sub(r"^\s*(template\s*<.*?>\s+|\[\[\w+\]\]\s*|decltype\(auto\)\s*)+", "", text)
    match = re.match(r"[^;={}()]*?(operator\s*(\(\)|[^\s\w(]+)|\w+)\s*\(", text)
    return match and match[1]


def declarations(lines, i):
    """(end, line numbers at which they begin) of the declarations that the comment above line i is about: one, and its overloads."""
    starts, name, at_start, depth = [], None, True, 0
    while i < len(lines):
        line = lines[i]
        if depth == 0 and (not line.strip() or is_scope(line) or re.match(r"^\s*(///[^<]|}|private:|public:|protected:|#)", line)):
            break
        if at_start:
            if starts and (name is None or function_at(lines, i) != name):
                break
            name = function_at(lines, i)
            starts.append(i)
        depth += depth_of(line)
        code = line.split("///<")[0].rstrip()
        at_start = depth == 0 and code.endswith((";", "}"))
        i += 1
    return i, starts


def grouped(lines):
    """Puts what shares a comment between @{ and @}."""
    out, i = [], 0
    while i < len(lines):
        if not lines[i].lstrip().startswith("///") or lines[i].lstrip().startswith("///<"):
            out.append(lines[i])
            i += 1
            continue
        start = i
        while i < len(lines) and lines[i].lstrip().startswith("///"):
            i += 1
        comment = lines[start:i]
        end, starts = declarations(lines, i)
        shared = len(starts) > 1 or (starts and SPLIT in lines[i])
        out += ["///@{", *comment, *lines[i:end], "///@}"] if shared else [*comment, *lines[i:end]]
        i = end
    return out


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().split("\n")
    print("\n".join(grouped([split(line) for line in translated(lines)])))


if __name__ == "__main__":
    main()
