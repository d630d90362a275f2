"""Makes the API index and checks that no public name is without a word: python3 check_api.py REPOSITORY WORK_FOLDER DOXYGEN

The index lies in WORK_FOLDER/api/html afterwards. The self-test plants names without a comment in copies of the headers
and must see a complaint about each of them.
"""
import glob
import os
import re
import shutil
import subprocess
import sys

WELL_KNOWN = """
AllocatorStats BatchSource BucketedBatches GRU LIBTRAIN_CHECK Parameters Sequential Tape Tensor TrainLoop TrainOptions
Transformer adam_update all_close clip_by_norm cosine_schedule inverse_sqrt label_smoothing linear_cross_entropy matmul
save_checkpoint self_attention set_requires_grad take_bad_index xavier_uniform""".split()

# (header, text that stands in it, what is planted before that, the name that must be complained about)
PLANTED = [
    ("libtrain/compare.h", "/// Empty when", "void planted_function();\n\n", "planted_function"),
    ("libtrain/compare.h", "/// Empty when", "struct PlantedStruct {\n  int one = 0, planted_two = 0;\n};\n\n", "PlantedStruct"),
    ("libtrain/compare.h", "/// Empty when", "", "planted_two"),
    ("libtrain/device.h", "/// The widest", "enum class PlantedEnum { kPlanted };\n\n", "PlantedEnum"),
    ("libtrain/compare.h", "/// Empty when", "#define LIBTRAIN_PLANTED 1\n\n", "LIBTRAIN_PLANTED"),
    ("libtrain/shape.h", "/// The same shape", "void planted_member() const;\n  ", "planted_member"),
    ("libtrain/compare.h", "/// Empty when",
     "namespace planted_namespace {\n/// Has a word.\nint worded();\nint planted_in();\n}\n\n", "planted_in"),
    # Below a comment that is about something else: that one is no excuse.
    ("libtrain/shape.h", "/// The same shape",
     "/// Of a neighbour.\n  int neighbour() const;\n  int planted_after() const;\n  ", "planted_after"),
    ("libtrain/nn/transformer.h", "/// Longest sequence",
     "/// Of a neighbour.\n  int neighbour = 0;\n  int planted_field = 0;\n  ", "planted_field"),
]


def make_index(doxygen, root, folder):
    """What Doxygen complains about, a line each. The index goes to folder/html."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    done = subprocess.run([doxygen, "docs/Doxyfile"], cwd=root, env={**os.environ, "LIBTRAIN_API_INDEX": folder},
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    complaints = [line for line in done.stdout.split("\n") if re.search(r"\b(error|warning): ", line)]
    if done.returncode != 0 and not complaints:
        complaints = [f"doxygen ends with {done.returncode}: {done.stdout.strip()}"]
    return complaints


def indexed_names(folder):
    """The names that the alphabetical lists of the index lead to."""
    names = set()
    for file_name in os.listdir(os.path.join(folder, "html")):
        if re.match(r"(annotated|classes|functions|namespacemembers|globals)\w*\.html$", file_name):
            with open(os.path.join(folder, "html", file_name), encoding="utf-8") as file:
                names |= set(re.findall(r"\w+", re.sub(r"<[^>]*>", " ", file.read())))
    return names


def missing_namespaces(root, folder):
    """Public namespaces without a page, and so without their functions in the index: Doxygen does not complain about those."""
    for header in sorted(glob.glob(os.path.join(root, "libtrain", "**", "*.h"), recursive=True)):
        with open(header, encoding="utf-8") as file:
            for name in re.findall(r"^namespace ([\w:]+) {", file.read(), re.MULTILINE):
                page = "namespace" + "_1_1".join(dict.fromkeys(["libtrain", *name.split("::")])) + ".html"
                if "detail" not in name and not os.path.isfile(os.path.join(folder, "html", page)):
                    yield f"{os.path.relpath(header, root)}: no word about namespace {name} where it first stands"


def self_test(doxygen, root, folder):
    copy = os.path.join(folder, "planted")
    shutil.rmtree(copy, ignore_errors=True)
    for part in ("docs", "libtrain"):
        shutil.copytree(os.path.join(root, part), os.path.join(copy, part))
    for header, before, text, _ in PLANTED:
        path = os.path.join(copy, header)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        assert source.count(before) == 1, f"self-test: '{before}' must stand once in {header}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(source.replace(before, text + before))
    complaints = make_index(doxygen, copy, os.path.join(folder, "planted_api"))
    for header, _, _, name in PLANTED:
        seen = any(name in line and header in line for line in complaints)
        assert seen, f"self-test: {name} in {header} was not complained about"
    unseen = list(missing_namespaces(copy, os.path.join(folder, "planted_api")))
    assert any("planted_namespace" in line for line in unseen), "self-test: planted_namespace was not missed"


def main():
    root, folder, doxygen = sys.argv[1:]
    self_test(doxygen, root, folder)
    index = os.path.join(folder, "api")
    violations = make_index(doxygen, root, index)
    violations += missing_namespaces(root, index)
    names = indexed_names(index)
    violations += [f"{name} is not in the index" for name in WELL_KNOWN if name not in names]
    for violation in violations:
        print(violation)
    print(f"API index: {len(names)} words in {index}/html, {len(violations)} violations")
    sys.exit(bool(violations))


main()
