"""All that wants a GPU, in one command: bash tests/gpu_first_run.sh OUT

Needs a GPU, nvcc, Python, NumPy, ml_dtypes, pytest and torch; no TensorFlow, no Bazel,
no network. compute-sanitizer is used where it is. In this order, each part with a log
OUT/<part>.log, whatever became of the part before it:

    machine     what it is: nvidia-smi, versions
    build       _gpu.so with machine code for this GPU, in OUT
    checks      every rule against float64 NumPy, and what a step does when memory fails
    xla         the calls that XLA makes under jit, from JAX, where there is one
    memcheck, racecheck, synccheck, initcheck
                some of the checks under compute-sanitizer
    large       more than 2^31 elements
    benchmark   OUT/benchmark.json, written case by case, the most telling cases first

OUT/summary.json says what each part was, took and came to. From checks to large the
parts run side by side; all share `--seconds` (540): one that needs less than its share
leaves the rest to those behind it, one that needs more is ended. The exit status is 0
if none failed or was ended.

    --library FILE   a _gpu.so that is already built
    --only a,b       these parts alone
    --emulated       without a GPU: the checks, on the emulation of `--library`
    --plan           print the parts and their commands, and run nothing
"""

import argparse
import concurrent.futures
import dataclasses
import importlib.util
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import gpu_build  # noqa: E402

MODULES = ("numpy", "ml_dtypes", "pytest", "torch")
# What a sanitizer slows down a hundredfold: a few tests that use every kind of kernel.
SANITIZED = {
    "memcheck": "widths or outside or long_run or without_memory",
    "racecheck": "matrices or widths",
    "synccheck": "matrices or widths",
    "initcheck": "matrices or widths or long_run",
}


@dataclasses.dataclass
class Part:
    name: str
    share: int  # of the time
    command: list
    tool: str = ""  # of the CUDA toolkit
    module: str = ""  # of Python's, which not every machine has
    stage: str = ""  # parts of the same one run side by side


def parts(out, library, emulated):
    python = [sys.executable]
    check = [*python, "tests/gpu_check.py", "--library", library]
    tests = [f"tests/gpu_{name}_test.py" for name in ("drivers", "errors", "bits")]
    quiet = ["-q", "--durations=5", "-o", "console_output_style=count"]
    if emulated:
        return [Part("checks", 1, [*check, *quiet, tests[1]])]
    return [
        Part("machine", 10, [*python, __file__, "--describe-machine"]),
        Part("build", 130, [*python, __file__, "--build-into", out]),
        Part("checks", 150, [*check, *quiet, *tests], stage="checks"),
        Part(
            "xla",
            150,
            [*check, *quiet, "tests/gpu_jax_test.py"],
            module="jax",
            stage="checks",
        ),
        *(
            Part(
                tool,
                150,
                [*check, "--sanitizer", tool, *quiet, "-x", *tests, "-k", chosen],
                tool="compute-sanitizer",
                stage="checks",
            )
            for tool, chosen in SANITIZED.items()
        ),
        Part(
            "large",
            150,
            [*check, *quiet, "tests/gpu_large_test.py"],
            stage="checks",
        ),
        Part(
            "benchmark",
            250,
            [
                *(*python, "tests/gpu_benchmark.py", "--quick"),
                *("--library", library, "--json", Path(out) / "benchmark.json"),
            ],
        ),
    ]


def missing(emulated):
    """What the machine lacks for a run, in words."""
    modules = MODULES[:-1] if emulated else MODULES
    lacks = [f"Python's {m}" for m in modules if importlib.util.find_spec(m) is None]
    if not emulated and gpu_build.capability() is None:
        lacks.append("a GPU (nvidia-smi and libcuda.so.1 show none)")
    return lacks


def run(part, log, seconds):
    """Runs a part; its exit status, or None if it was ended."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            list(map(str, part.command)),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def stages(chosen):
    """Lists of the parts that run side by side."""
    return [
        list(parts)
        for _, parts in itertools.groupby(chosen, lambda p: p.stage or p.name)
    ]


def share_of(stage):
    return max(part.share for part in stage)


def try_part(part, out, library, limit):
    """Runs a part if it can be; its row of the summary."""
    row = {"part": part.name, "command": " ".join(map(str, part.command))}
    start = time.monotonic()
    if part.tool and gpu_build.find_tool(part.tool) is None:
        row["result"] = f"skipped: there is no {part.tool}"
    elif part.module and importlib.util.find_spec(part.module) is None:
        row["result"] = f"skipped: there is no {part.module}"
    elif part.name not in ("machine", "build") and not Path(library).exists():
        row["result"] = "skipped: nothing was built"
    else:
        status = run(part, Path(out) / f"{part.name}.log", limit)
        row["result"] = (
            f"ended after {limit:.0f} s"
            if status is None
            else "passed"
            if status == 0
            else f"failed with status {status}"
        )
    row["seconds"] = round(time.monotonic() - start, 1)
    print(f"{part.name:10} {row['seconds']:7.1f} s  {row['result']}", flush=True)
    return row


def run_all(chosen, out, library, seconds):
    """Runs the parts; a list of what came of each, also in summary.json."""
    began, done, left = time.monotonic(), [], stages(chosen)
    while left:
        rest = seconds - (time.monotonic() - began)
        limit = max(1.0, rest * share_of(left[0]) / sum(map(share_of, left)))
        stage = left.pop(0)
        with concurrent.futures.ThreadPoolExecutor(len(stage)) as pool:
            jobs = [pool.submit(try_part, part, out, library, limit) for part in stage]
            done += [job.result() for job in jobs]
        (Path(out) / "summary.json").write_text(json.dumps(done, indent=1) + "\n")
    return done


def describe_machine():
    print(
        platform.platform(), os.cpu_count(), "CPUs, Python", platform.python_version()
    )
    print("compute capability", gpu_build.capability())
    for name in MODULES:
        print(name, __import__(name).__version__)
    for command in (["nvidia-smi"], [gpu_build.find_nvcc(), "--version"]):
        subprocess.run(list(map(str, command)), check=False)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", help="a folder for logs and figures")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--library", help="a _gpu.so that is already built")
    parser.add_argument("--only", default="", help="parts, with commas between")
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--describe-machine", action="store_true")
    parser.add_argument("--build-into", metavar="FOLDER")
    options = parser.parse_args()
    if options.describe_machine:
        return describe_machine()
    if options.build_into:
        return print("built", gpu_build.build(options.build_into))
    if not options.out:
        parser.error("expected OUT, a folder for logs and figures. Received: nothing.")
    out = Path(options.out).resolve()
    library = Path(options.library or out / "_gpu.so").resolve()
    chosen = parts(out, library, options.emulated)
    if options.library:
        chosen = [part for part in chosen if part.name != "build"]
    if options.only:
        names = options.only.split(",")
        known = [part.name for part in chosen]
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"--only must be of {', '.join(known)}. Received: {unknown}.")
        chosen = [part for part in chosen if part.name in names]
    if options.plan:
        total = sum(map(share_of, stages(chosen)))
        for stage in stages(chosen):
            share = options.seconds * share_of(stage) / total
            for part in stage:
                command = " ".join(map(str, part.command))
                print(f"{part.name:10} {share:5.0f} s  {command}")
        return 0
    lacks = missing(options.emulated)
    if any(p.name == "build" for p in chosen) and gpu_build.find_nvcc() is None:
        lacks.append("nvcc (on PATH, in CUDA_HOME, from pip, in /usr/local/cuda)")
    if options.emulated and not options.library:
        lacks.append("--library FILE, whose emulation is to run")
    if lacks:
        print(f"gpu_first_run: error: missing: {'; '.join(lacks)}.", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    done = run_all(chosen, out, library, options.seconds)
    return int(any(row["result"].startswith(("failed", "ended")) for row in done))


if __name__ == "__main__":
    sys.exit(main())
