"""Numbers that the documents tell, against the tables that they are counted from."""
import ast
import os
import re

MISTAKE_TABLES = ("COMMAND_LINE", "DATA_FILES", "CHECKPOINTS", "ENVIRONMENT")  # of tests/seq2seq/mistakes.py
# (document, what it says, # being the number of rows of the table)
COUNTS = [
    ("README.md", "# answered with what, where and remedy", "mistakes"),
    ("docs/reliability.md", "A table of # mistakes against the library", "library"),
    ("docs/reliability.md", "one of # against the real program", "program"),
    ("docs/reliability.md", "| # of # |", "mistakes"),
    ("docs/reliability.md", "[# planted bugs", "bugs"),
    ("docs/planted_bugs.md", "lists # bugs", "bugs"),
    ("docs/planted_bugs.md", "All # are found", "bugs"),
]


def table_sizes(root):
    """{name: rows} of the tables whose sizes the documents tell"""
    def text(*path):
        with open(os.path.join(root, "tests", *path), encoding="utf-8") as file:
            return file.read()

    library = sum(len(re.findall(r'^ +\{"', text("mistakes", name), re.M))
                  for name in os.listdir(os.path.join(root, "tests", "mistakes")) if name.endswith(".cpp"))
    program = sum(len(node.value.elts) for node in ast.parse(text("seq2seq", "mistakes.py")).body
                  if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in MISTAKE_TABLES)
    bugs = len(re.findall(r"^@ ", text("planted_bugs.txt"), re.M))
    return {"library": library, "program": program, "mistakes": library + program, "bugs": bugs}


def check_counts(root, documents):
    sizes = table_sizes(root)
    for document, words, table in COUNTS:
        expected = words.replace("#", str(sizes[table]))
        if document in documents and expected not in documents[document]:
            yield f"{document}: expected '{expected}', the number of rows of the table"
