"""Compiles what needs no TensorFlow for aarch64, and compares its bits with x86-64's.

python -m build_deps.aarch64

needs apt's g++-aarch64-linux-gnu and qemu-user, and `./configure.sh` before.

Rules, values, drivers and kernels are compiled by the cross compiler with the flags of
build_deps/tf_optim.bzl. Under qemu run the C++ tests of drivers and threads, and
cc/tests/bits.cc: its lines are compared with those of this machine. The native module
is compiled and linked, not run.
"""

from __future__ import annotations

import ast
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

from build_deps import highway

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "aarch64"
COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
PER_SET = ["cc/cpu/average.cc", "cc/cpu/norms.cc", "cc/cpu/packed.cc"]
ONCE = ["cc/cpu/isa.cc", "cc/cpu/find.cc", "cc/kernels/share.cc"]
PROGRAMS = ["share_test", "threads_test", "drivers_test", "bits"]


def flags():
    """Those of every file, from the macro."""
    text = (ROOT / "build_deps" / "tf_optim.bzl").read_text()
    copts = ast.literal_eval(re.search(r"COPTS = (\[.*?\])", text, re.DOTALL)[1])
    return [*copts, "-fPIC", "-I.", f"-I{FOLDER}", "-isystem", str(highway.CACHE)]


def rules():
    """The headers of cc/rules that are rules."""
    text = (ROOT / "cc" / "rules" / "BUILD").read_text()
    contract = re.search(r"_CONTRACT = (\[.*?\])", text, re.DOTALL)[1]
    every = {path.name for path in (ROOT / "cc" / "rules").glob("*.h")}
    return [
        f"cc/rules/{name}" for name in sorted(every - {*ast.literal_eval(contract)})
    ]


def generated(template, headers, path):
    """What the build makes of a template."""
    path = FOLDER / path
    path.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["build_deps/rule_sources.sh", template, *headers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text(made.stdout)
    return path


def each_rule(folder, headers):
    """A source of each rule, from the folder's template."""
    return [
        generated(
            f"{folder}/rule.cc.tpl", [rule], f"{folder}/{pathlib.Path(rule).stem}.cc"
        )
        for rule in headers
    ]


def compile_one(job):
    source, target, options = job
    subprocess.run(
        [COMPILER, *flags(), *options, "-c", source, "-o", target], cwd=ROOT, check=True
    )
    print(f"    {target.stem}", flush=True)
    return target


def jobs():
    """(source, object, options) of everything."""
    headers = rules()
    generated("cc/rules/all_rules.h.tpl", headers, "cc/rules/all_rules.h")
    sources = each_rule("cc/cpu", headers)
    for isa in ("Scalar", "Baseline"):
        for source in [*sources, *map(pathlib.Path, PER_SET)]:
            target = FOLDER / f"{source.stem}-{isa}.o"
            yield str(source), target, [f"-DTFO_ISA={isa}"]
    for source in [*ONCE, *(f"cc/tests/{name}.cc" for name in PROGRAMS)]:
        yield source, FOLDER / f"{pathlib.Path(source).stem}.o", []


def link(name, objects):
    program = FOLDER / name
    subprocess.run([COMPILER, *objects, "-pthread", "-o", program], check=True)
    return program


def native_module(objects):
    """Compiled and linked: the Python to load it would have to be aarch64's."""
    import pybind11

    include = ["-isystem", pybind11.get_include()]
    include += ["-isystem", sysconfig.get_paths()["include"]]
    options = [*include, '-DTFO_TF_VERSION="none"', "-DTFO_CUDA=0"]
    sources = sorted((ROOT / "cc" / "python").glob("*.cc"))
    sources = [path for path in sources if path.name != "gpu_api.cc"]
    sources += [ROOT / "cc" / "steps" / "take_step.cc", *each_rule("cc/steps", rules())]
    jobs = [(str(each), FOLDER / f"native-{each.stem}.o", options) for each in sources]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        targets = list(pool.map(compile_one, jobs))
    library = FOLDER / "_native.so"
    subprocess.run([COMPILER, "-shared", *targets, *objects, "-o", library], check=True)


def main():
    for tool in (COMPILER, EMULATOR[0]):
        if shutil.which(tool) is None:
            sys.exit(
                f"expected {tool} on the PATH. Received: none. On Debian or Ubuntu: "
                "apt-get install g++-aarch64-linux-gnu qemu-user"
            )
    FOLDER.mkdir(parents=True, exist_ok=True)
    if (highway.version_in(highway.CACHE) or (0, 0)) < highway.LEAST:
        highway.fetch()
    print("compiling", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, jobs()))
    of_programs = {FOLDER / f"{name}.o" for name in PROGRAMS}
    library = [each for each in objects if each not in of_programs]
    bits = None
    for name in PROGRAMS:
        program = link(name, [FOLDER / f"{name}.o", *library])
        ran = subprocess.run([*EMULATOR, program], capture_output=True, text=True)
        print(f"{name}: {'passed' if ran.returncode == 0 else ran.stderr}", flush=True)
        if ran.returncode:
            return 1
        bits = ran.stdout.splitlines()
    native_module(library)
    build = ["bazel", "build", "//cc/tests:bits"]
    subprocess.run(build, cwd=ROOT, check=True)
    here = subprocess.run(
        ["bazel-bin/cc/tests/bits"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    differ = [there for there, own in zip(bits, here, strict=True) if there != own]
    print(f"bits: {len(bits)} steps, {len(differ)} differ from x86-64's")
    print(*differ, sep="\n")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
