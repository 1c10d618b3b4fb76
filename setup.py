"""Builds the wheel: Bazel makes the shared libraries, setuptools packs them.

They are built for the TensorFlow of the environment that runs `pip install .` or
`pip wheel .`, with build isolation or without, or for the one that TF_VERSION names. If
that environment has none that is supported, the default of build_deps/versions.py is
installed into build/venv for the build.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_deps"))

import versions  # noqa: E402

BAZELRC = ROOT / "build" / "wheel.bazelrc"
STAGING = ROOT / "build" / "setuptools"
LIBRARIES = ["libtf_optim_cpu", "_native", "_tf_optim_ops", "_tf_optim_xla"]


def run(*command, variables=None, **options):
    """Runs a command outside pip's isolated environment, which hides TensorFlow."""
    environment = {**os.environ, **(variables or {})}
    for isolating in ("PYTHONPATH", "PYTHONHOME", "PIP_BUILD_TRACKER"):
        environment.pop(isolating, None)
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, **options)


def tensorflow_of(python):
    """The minor version of a Python's TensorFlow, if it is the one to build for."""
    program = (
        "import sys; sys.path.insert(0, 'build_deps'); import versions; "
        "chosen = versions.chosen(); "
        "print(chosen if versions.installed() == chosen else '')"
    )
    return run(python, "-c", program, capture_output=True, text=True).stdout.strip()


HERE = tensorflow_of(sys.executable)
MINOR = HERE or versions.chosen()


def python_with_tensorflow():
    """The interpreter whose TensorFlow, pybind11 and headers the build uses."""
    if HERE:
        return sys.executable
    folder = ROOT / "build" / "venv"
    python = str(folder / "bin" / "python")
    if not folder.exists() or tensorflow_of(python) != MINOR:
        run(sys.executable, "-m", "venv", "--clear", str(folder))
        run(python, "-m", "pip", "install", "--quiet", *versions.RELEASES[MINOR].pins())
    return python


def of_this_minor_version(package):
    major, minor = map(int, MINOR.split("."))
    return f"{package}>={major}.{minor},<{major}.{minor + 1}"


def version():
    """That of tf_optim/version.py, which cannot be imported without TensorFlow."""
    found = {}
    exec((ROOT / "tf_optim" / "version.py").read_text(), found)
    return found["__version__"]


def pybind11_include():
    import pybind11  # a build requirement: in the isolated environment, or in ours

    return pybind11.get_include()


class BazelBuild(build_ext):
    """Lets Bazel make all libraries at once, then puts them where they belong."""

    def run(self):
        run(
            "./configure.sh",
            variables={
                "TF_OPTIM_PYTHON": python_with_tensorflow(),
                "TF_OPTIM_BAZELRC": str(BAZELRC),
                "TF_OPTIM_PYBIND11_INCLUDE": pybind11_include(),
            },
        )
        bazel = shutil.which("bazel") or shutil.which("bazelisk")
        targets = [f"//:{name}.so" for name in LIBRARIES]
        cuda = ["--config=cuda"] if os.environ.get("TF_NEED_CUDA") == "1" else []
        run(bazel, f"--bazelrc={BAZELRC}", "build", *cuda, *targets)
        if self.editable_mode:
            return  # the package in a checkout finds them in bazel-bin
        for name in LIBRARIES:
            target = Path(self.get_ext_fullpath(f"tf_optim.{name}"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # Bazel's files are read-only, so is a copy
            shutil.copy(ROOT / "bazel-bin" / f"{name}.so", target)
            target.chmod(0o755)

    def get_ext_filename(self, fullname):
        return fullname.replace(".", "/") + ".so"


# What an earlier build staged would be packed again, deleted modules too.
shutil.rmtree(STAGING, ignore_errors=True)
setup(
    # Which TensorFlow it is for is part of the version: pip takes the one that fits.
    version=f"{version()}+tf{MINOR}",
    options={"build": {"build_base": str(STAGING)}},
    cmdclass={"build_ext": BazelBuild},
    ext_modules=[Extension(f"tf_optim.{name}", sources=[]) for name in LIBRARIES],
    install_requires=[of_this_minor_version("tensorflow"), "ml_dtypes", "numpy"]
    + ["typing_extensions>=4.1"],
    extras_require={
        "tf-keras": [of_this_minor_version("tf_keras")],
        "demo": ["matplotlib", "scikit-learn", "tqdm"],
        "bench": ["fbgemm-gpu-cpu==1.8.0", "matplotlib", "torch==2.13.0", "tqdm"],
    },
)
