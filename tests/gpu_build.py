"""Builds _gpu.so with nvcc alone: no Bazel, no TensorFlow, no Python headers."""

import ast
import concurrent.futures
import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("cc/cuda/*.cu"), *ROOT.glob("cc/drivers/*.cu")])


def rules():
    """The headers that are a rule each: //cc/rules:each_rule."""
    text = (ROOT / "cc" / "rules" / "BUILD").read_text()
    others = ast.literal_eval(
        re.search(r"^_CONTRACT = (\[.*?^\])", text, re.S | re.M)[1]
    )
    headers = sorted((ROOT / "cc" / "rules").glob("*.h"))
    return [header for header in headers if header.name not in others]


def make_sources(folder):
    """Writes what Bazel makes of the templates; returns the .cu files of the rules."""
    folder = Path(folder)
    (folder / "cc" / "rules").mkdir(parents=True, exist_ok=True)
    headers = [header.relative_to(ROOT) for header in rules()]
    _make("cc/rules/all_rules.h.tpl", headers, folder / "cc/rules/all_rules.h")
    made = [folder / f"{header.stem}.cu" for header in headers]
    for header, source in zip(headers, made, strict=True):
        _make("cc/cuda/rule.cu.tpl", [header], source)
    return made


def _make(template, headers, output):
    output.write_text(_run(["build_deps/rule_sources.sh", template, *headers]))


def find_nvcc():
    """As `./configure.sh` looks for it, or None."""
    path = ROOT / "build_deps" / "configure_cuda.py"
    spec = importlib.util.spec_from_file_location("configure_cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next((n for n in module.candidates() if os.access(n, os.X_OK)), None)


def find_tool(name):
    """A program of the CUDA toolkit's, or None: on PATH, beside nvcc, with pip's."""
    nvcc = find_nvcc()
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    places = [
        shutil.which(name) or "",
        *([Path(nvcc).resolve().parent / name] if nvcc else []),
        *sorted(packages.glob(f"*/bin/{name}"), reverse=True),
        Path("/usr/local/cuda/bin") / name,
    ]
    return next((str(p) for p in places if p and os.access(p, os.X_OK)), None)


def capability():
    """The compute capability of this machine's first GPU, as "90", or None.

    nvcc's own `-arch=native` builds for its oldest GPU where no driver answers.
    """
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if found := re.match(r"\s*(\d+)\.(\d)\b", said):
            return found[1] + found[2]
    except (OSError, subprocess.CalledProcessError):
        pass  # not in every container; the driver's library is
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = (ctypes.c_int() for _ in range(3))
    # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    )
    return None if failed else f"{major.value}{minor.value}"


def architecture(capability):
    """nvcc's flag for machine code of one compute capability, "90"."""
    return f"-gencode=arch=compute_{capability},code=sm_{capability}"


def options():
    """The flags that Bazel gives nvcc."""
    return _list_of("NVCC_OPTS", ROOT / "build_deps" / "cuda_configure.bzl")


def _list_of(name, path):
    """A list of a Bazel file."""
    text = path.read_text()
    return ast.literal_eval(re.search(rf"^{name} = (\[.*?^\])", text, re.S | re.M)[1])


def compile_cuda(nvcc, source, output, *flags):
    """Compiles one .cu file and returns what nvcc said; or RuntimeError with that."""
    return _run([nvcc, *options(), *flags, "-I.", "-c", source, "-o", output])


def build(folder, *flags):
    """Builds `folder`/_gpu.so for this machine's GPU, or for those `flags` name."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError("There is no nvcc on PATH, in CUDA_HOME or /usr/local/cuda.")
    if not flags:
        number = capability()
        if number is None:
            raise RuntimeError("Neither nvidia-smi nor the driver shows a GPU.")
        flags = (architecture(number),)
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*SOURCES, *make_sources(folder)]
    objects = [folder / f"{source.stem}.o" for source in sources]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(compile_cuda, nvcc, source, output, *flags)
            for source, output in zip(sources, objects, strict=True)
        ]
        api = folder / "gpu_api.o"
        jobs.append(pool.submit(_compile_api, nvcc, api))
        for job in jobs:
            job.result()
    library = folder / "_gpu.so"
    _run([nvcc, "-shared", "-cudart=static", *flags, *objects, api, "-o", library])
    return library


def build_for_jax(folder, headers):
    """Builds `folder`/_jax.so: the call that XLA makes, for JAX' XLA."""
    library = Path(folder).resolve() / "_jax.so"
    sources = ["cc/xla/gpu_call.cc", "cc/xla/ffi_call.cc", "cc/python/jax_call.cc"]
    command = [find_nvcc(), "-std=c++17", "-O1", "-Xcompiler=-fPIC,-Wall", "-shared"]
    _run([*command, "-I.", f"-I{headers}", *sources, "-o", library])
    return library


def _compile_api(nvcc, output):
    host = "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off"
    source = ROOT / "cc" / "python" / "gpu_api.cc"
    command = [nvcc, "-std=c++17", "-O1", host, "-DTFO_CUDA=1", "-I."]
    command.append(f"-I{output.parent}")
    _run([*command, "-x", "c++", "-c", source, "-o", output])


def _run(command):
    command = list(map(str, command))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
