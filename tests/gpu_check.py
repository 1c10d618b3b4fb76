"""Checks the GPU kernels on this machine: python tests/gpu_check.py [pytest arguments]

Needs a GPU, nvcc, NumPy, ml_dtypes, pytest and torch or CuPy; neither Bazel nor
TensorFlow. It builds _gpu.so with nvcc, then runs

    tests/gpu_drivers_test.py   every rule, dense and sparse, against float64 NumPy
    tests/gpu_errors_test.py    a step that lacks memory, a driver, a right index
    tests/gpu_bits_test.py      the bits that a CPU has
    tests/gpu_large_test.py     more than 2^31 elements, where memory allows (torch)

With --sanitizer TOOL (memcheck, racecheck, initcheck, synccheck) the tests run under
NVIDIA's compute-sanitizer. --library FILE takes a _gpu.so that is already built.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = tuple(
    f"tests/gpu_{name}_test.py" for name in ("drivers", "errors", "bits", "large")
)


def run_here(arguments):
    """Runs pytest in this process, without importing TensorFlow."""
    import types

    import pytest

    # tf_optim's own __init__ loads the ops; only its NumPy reference is wanted.
    package = types.ModuleType("tf_optim")
    package.__path__ = [str(ROOT / "tf_optim")]
    sys.modules["tf_optim"] = package
    sys.path.insert(0, str(ROOT))
    return pytest.main(["--noconftest", "-p", "no:cacheprovider", *arguments])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", help="a _gpu.so built before")
    parser.add_argument("--sanitizer", help="a tool of compute-sanitizer")
    options, rest = parser.parse_known_args()
    if os.environ.get("TF_OPTIM_GPU_LIBRARY"):  # below, under the sanitizer
        return run_here(rest)
    given = options.library and Path(options.library).resolve()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from tests import gpu_build

    with tempfile.TemporaryDirectory() as folder:
        library = given or gpu_build.build(folder)
        environment = {**os.environ, "TF_OPTIM_GPU_LIBRARY": str(library)}
        command = [sys.executable, __file__, *(rest or ["-q", *TESTS])]
        if options.sanitizer:
            tool = gpu_build.find_tool("compute-sanitizer")
            if tool is None:
                sys.exit("compute-sanitizer is not on PATH, nor beside nvcc.")
            # torch's allocator would hide accesses past the end of an array.
            environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
            command = [
                tool,
                f"--tool={options.sanitizer}",
                "--error-exitcode=1",
                *command,
            ]
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
