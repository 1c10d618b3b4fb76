"""Finds nvcc and chooses the GPUs to build for (TF_NEED_CUDA=1)."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

DEFAULT_CAPABILITIES = "7.5,8.0,9.0"


def candidates():
    """Where an nvcc may be, the likeliest wish first."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            # Somebody who names a toolkit wants no other.
            yield Path(os.environ[name]) / "bin" / "nvcc"
            return
    if on_path := shutil.which("nvcc"):
        yield Path(on_path)
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    yield from sorted(packages.glob("*/bin/nvcc"), reverse=True)
    yield Path("/usr/local/cuda/bin/nvcc")


def find_nvcc():
    tried = list(candidates())
    for nvcc in tried:
        if nvcc.is_file() and os.access(nvcc, os.X_OK):
            return nvcc
    sys.exit(
        f"configure: error: expected nvcc at one of {', '.join(map(str, tried))}. "
        "Received: none. Install the CUDA toolkit, or nvidia-cuda-nvcc with pip, or "
        "set CUDA_HOME."
    )


def library_folder(nvcc):
    """The folder that holds the CUDA runtime's static library."""
    # nvcc knows where its toolkit is, which a wrapper's own place does not say.
    dry_run = [nvcc, "-dryrun", "-x", "cu", os.devnull, "-o", os.devnull]
    talk = subprocess.run(dry_run, capture_output=True, text=True, check=False)
    folders = []
    for line in (talk.stdout + talk.stderr).splitlines():
        if "LIBRARIES=" in line:
            folders += re.findall(r'"-L([^"]+)"', line)
        if found := re.search(r"TOP=(\S+)", line):
            folders += [f"{found[1]}/lib64", f"{found[1]}/lib"]
    for folder in folders:
        if (Path(folder) / "libcudart_static.a").is_file():
            return Path(folder).resolve()
    sys.exit(
        f"configure: error: expected libcudart_static.a in one of "
        f"{', '.join(folders)} (as {nvcc} says). Received: none. With pip it is in "
        "nvidia-cuda-runtime."
    )


def gencode(capabilities):
    """nvcc's flags for "8.0,9.0": machine code for each, and PTX of the newest."""
    numbers = []
    for text in capabilities.split(","):
        match = re.fullmatch(r"\s*(\d+)\.(\d)\s*", text)
        if not match:
            sys.exit(
                "configure: error: expected TF_CUDA_COMPUTE_CAPABILITIES like "
                f"{DEFAULT_CAPABILITIES}. Received: {capabilities}."
            )
        numbers.append(int(match[1] + match[2]))
    flags = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in sorted(numbers)]
    newest = max(numbers)
    return " ".join([*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"])


def facts():
    """What cuda_configure.bzl reads, by environment variable."""
    nvcc = find_nvcc()
    capabilities = os.environ.get("TF_CUDA_COMPUTE_CAPABILITIES")
    return {
        "TF_OPTIM_NVCC": str(nvcc),
        "TF_OPTIM_CUDA_GENCODE": gencode(capabilities or DEFAULT_CAPABILITIES),
        "TF_OPTIM_CUDA_LIBRARIES": str(library_folder(nvcc)),
    }
