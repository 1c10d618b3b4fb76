"""Builds the wheel: Bazel makes the shared libraries, setuptools packs them.

They are built for the TensorFlow of the environment that runs `pip install .` or
`pip wheel .`, with build isolation or without. If that environment has no TensorFlow
of the pinned minor version, the pinned one is installed into build/venv for the build.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BAZELRC = ROOT / "build" / "wheel.bazelrc"
STAGING = ROOT / "build" / "setuptools"
LIBRARIES = ["_native", "_tf_optim_ops", "_tf_optim_xla"]


def read_pins():
    """Returns build_deps/requirements.txt as {package: its lines}."""
    pins = {}
    for line in (ROOT / "build_deps" / "requirements.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            pins.setdefault(line.split("==")[0], []).append(line)
    return pins


PINS = read_pins()
MAJOR, MINOR = map(int, PINS["tensorflow"][0].split("==")[1].split(".")[:2])


def of_this_minor_version(package):
    return f"{package}>={MAJOR}.{MINOR},<{MAJOR}.{MINOR + 1}"


def run(*command, **variables):
    """Runs a command outside pip's isolated environment, which hides TensorFlow."""
    environment = {**os.environ, **variables}
    for isolating in ("PYTHONPATH", "PYTHONHOME", "PIP_BUILD_TRACKER"):
        environment.pop(isolating, None)
    subprocess.run(command, env=environment, cwd=ROOT, check=True)


def has_tensorflow(python):
    expected = [str(MAJOR), str(MINOR)]
    try:
        run(
            python,
            "-c",
            "import importlib.metadata as m, sys; "
            "found = [d.version for d in m.distributions(name='tensorflow')]; "
            f"sys.exit([v.split('.')[:2] for v in found[:1]] != [{expected}])",
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def python_with_tensorflow():
    """The interpreter whose TensorFlow, pybind11 and headers the build uses."""
    if has_tensorflow(sys.executable):
        return sys.executable
    folder = ROOT / "build" / "venv"
    python = str(folder / "bin" / "python")
    if not has_tensorflow(python):
        run(sys.executable, "-m", "venv", "--clear", str(folder))
        pins = [pin for name in ("tensorflow", "keras", "numpy") for pin in PINS[name]]
        run(python, "-m", "pip", "install", "--quiet", *pins)
    return python


def pybind11_include():
    import pybind11  # a build requirement: in the isolated environment, or in ours

    return pybind11.get_include()


class BazelBuild(build_ext):
    """Lets Bazel make all libraries at once, then puts them where they belong."""

    def run(self):
        run(
            "./configure.sh",
            TF_OPTIM_PYTHON=python_with_tensorflow(),
            TF_OPTIM_BAZELRC=str(BAZELRC),
            TF_OPTIM_PYBIND11_INCLUDE=pybind11_include(),
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
