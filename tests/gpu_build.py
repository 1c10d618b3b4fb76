"""Builds _gpu.so with nvcc alone: no Bazel, no TensorFlow, no Python headers."""

import ast
import concurrent.futures
import importlib.util
import os
import re
import subprocess
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


def options():
    """The flags that Bazel gives nvcc."""
    return _list_of("NVCC_OPTS", ROOT / "build_deps" / "cuda_configure.bzl")


def _list_of(name, path):
    """A list of a Bazel file."""
    text = path.read_text()
    return ast.literal_eval(re.search(rf"^{name} = (\[.*?^\])", text, re.S | re.M)[1])


def compile_cuda(nvcc, source, output, *flags):
    """Compiles one .cu file; raises RuntimeError with what nvcc said."""
    _run([nvcc, *options(), *flags, "-I.", "-c", source, "-o", output])


def build(folder, *flags):
    """Builds `folder`/_gpu.so for this machine's GPU, or for those `flags` name."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError("There is no nvcc on PATH, in CUDA_HOME or /usr/local/cuda.")
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    flags = flags or ("-arch=native",)
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
    return done.stdout
