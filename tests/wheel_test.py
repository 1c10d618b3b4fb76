"""`pip install .` packs a package that works, away from the checkout.

Bazel's part, the libraries, is here already: the command on the path says its version
and does nothing.
"""

import os
import shutil
import subprocess
import sys

import pytest

from tests import style_test
from tf_optim import library, version

USE = """
import pathlib, sys
import numpy as np
import tensorflow as tf
import tf_optim

assert pathlib.Path(tf_optim.__file__).is_relative_to(sys.argv[1]), tf_optim.__file__
for jit in (False, True):
    table = tf.Variable(tf.ones([4, 2]))
    optimizer = tf_optim.SGD(0.5)
    optimizer.build([table])
    rows = tf.IndexedSlices(tf.ones([3, 2]), tf.constant([2, 0, 2]))
    step = lambda: optimizer.apply_gradients([(rows, table)])
    tf.function(step, jit_compile=jit)()
    np.testing.assert_array_equal(table[:, 0], [0.5, 1.0, 0.0, 1.0])
print(tf_optim.__version__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip has installed a copy of the checkout into."""
    folder = tmp_path_factory.mktemp("wheel")
    copy, target, tools = (folder / name for name in ("copy", "target", "tools"))
    for name in style_test.tracked(("*",)):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(style_test.ROOT / name, copy / name)
    libraries = library.find(library.OPS_LIBRARY).parent
    (copy / "bazel-bin").symlink_to(libraries.resolve())
    tools.mkdir()
    bazel = tools / "bazel"
    its_own = shutil.which("bazel") or shutil.which("bazelisk")
    bazel.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {its_own} "$1"\nexit 0\n'
    )
    bazel.chmod(0o755)
    # What is installed already is no requirement to fetch; the tools are those here.
    quiet = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "install", *quiet, "--target", target, "."],
        cwd=copy,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return target


def test_installed_package_trains(installed, tmp_path):
    used = subprocess.run(
        [sys.executable, "-c", USE, installed],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr[-4000:]
    assert used.stdout.split()[-1] == version.__version__


def test_what_is_installed(installed):
    (about,) = installed.glob("tf_optim-*.dist-info")
    metadata = (about / "METADATA").read_text()
    built_for = library.build_info()["tensorflow"].split(".")
    assert f"tensorflow<{built_for[0]}.{int(built_for[1]) + 1}" in metadata
    assert f"{version.__version__}+tf{'.'.join(built_for[:2])}" in about.name
    assert list(about.rglob("LICENSE"))
    found = {path.name for path in (installed / "tf_optim").glob("*.so")}
    assert found == {
        "_native.so",
        "_tf_optim_ops.so",
        "_tf_optim_xla.so",
        "libtf_optim_cpu.so",
    }
    assert (installed / "tf_optim" / "py.typed").is_file()
    # The package, and nothing of the checkout beside it.
    assert {path.name for path in installed.iterdir()} == {"tf_optim", about.name}
