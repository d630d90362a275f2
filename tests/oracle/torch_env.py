"""Makes a virtual environment with PyTorch for the CPU, the light way.

PyPI's Linux wheel of PyTorch is a CUDA build whose packages fill several gigabytes, and it does not import without them. Here the wheel is
installed alone, and every CUDA library that it names gets a stand-in whose functions return an error and are never called on a CPU:
about 0.8 GB to download instead of 2.5. Needs gcc, nm and readelf.

  python3 torch_env.py FOLDER     makes (or completes) FOLDER and prints the environment variables that `run` sets
"""
import collections
import os
import pathlib
import re
import subprocess
import sys
import venv

TORCH = "2.2.2"
NEEDED = ["filelock", "typing-extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "numpy", "setuptools"]
PINNED = {TORCH: {"sympy": "sympy==1.12", "numpy": "numpy<2"}}
SYMBOL_VERSIONS = {"libnvshmem_host.so.3": "NVSHMEM"}  # of a library's functions, where it is not the library's name


def packages(torch):
    return [f"torch=={torch}", *(PINNED.get(torch, {}).get(name, name) for name in NEEDED)]


def tool_output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cuda_symbols(libraries):
    """The CUDA libraries that these need and nobody provides, each with the functions that are looked for in it."""
    needed, versioned, plain, defined = set(), collections.defaultdict(set), set(), set()
    for library in libraries:
        needed |= set(re.findall(r"NEEDED.*\[(.*?)\]", tool_output("readelf", "-d", library)))
        for line in tool_output("nm", "-D", library).splitlines():
            kind, (name, _, version) = line.split()[-2], line.split()[-1].partition("@")
            if kind != "U":
                defined.add(name)
            elif version:
                versioned[version].add(name)
            else:
                plain.add(name)
    present = {library.name for library in libraries}
    missing = {name for name in needed - present if re.match(r"lib(cu|nv|nccl)", name)}
    unversioned = {name for name in plain - defined if re.match(r"(cu|nccl|nv)", name, re.IGNORECASE)}
    functions = lambda name: versioned[SYMBOL_VERSIONS.get(name, name)] | (unversioned if name.startswith("libcudart") else set())
    return {name: functions(name) for name in missing}, versioned


def make_stand_ins(torch_lib, folder):
    folder.mkdir(exist_ok=True)
    libraries = sorted(torch_lib.glob("*.so*"))
    wanted, versioned = cuda_symbols(libraries)
    for library, names in wanted.items():
        source = "".join(f"int {name}(void) {{ return 999; }}\n" for name in sorted(names) if re.fullmatch(r"\w+", name))
        command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{library}", "-o", str(folder / library)]
        version = SYMBOL_VERSIONS.get(library, library)
        if versioned[version]:
            version_map = folder / "versions.map"
            version_map.write_text(f"{version} {{ global: {'; '.join(sorted(versioned[version]))}; }};")
            command.append(f"-Wl,--version-script={version_map}")
        subprocess.run(command, input=source, text=True, check=True)


def prepare(folder, torch=TORCH):
    """Makes the environment if it is not complete; returns its Python and the variables to run it with. `torch`: the version of PyTorch."""
    folder = pathlib.Path(folder).resolve()
    python, stand_ins, done = folder / "bin" / "python", folder / "cuda_stand_ins", folder / f"complete-{torch}"
    if not done.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *packages(torch)], check=True)
        make_stand_ins(next(folder.glob("lib/python*/site-packages/torch/lib")), stand_ins)
        done.touch()
    return str(python), {**os.environ, "LD_LIBRARY_PATH": str(stand_ins), "CUDA_VISIBLE_DEVICES": "", "LIBTRAIN_TORCH_ENV": "1"}


def enter(folder):
    """Runs the calling script again inside the environment, unless it runs there already. Call it before importing torch."""
    if os.environ.get("LIBTRAIN_TORCH_ENV") != "1":
        python, environment = prepare(folder)
        os.execve(python, [python, *sys.argv], environment)
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # the stand-ins lack what is never called


if __name__ == "__main__":
    python, environment = prepare(sys.argv[1] if len(sys.argv) > 1 else ".venv-torch")
    print(f"LD_LIBRARY_PATH={environment['LD_LIBRARY_PATH']} {python}")
