"""Breaks the package in one place at a time and asks the tests whether they see it.

    python -m tests.mutants              what has not been run yet, then the table
    python -m tests.mutants NAME ...     these
    python -m tests.mutants --list       no run: name, file and tests of each

A mutant is a substitution in one file (tests/mutant_table.py). It is applied to a
scratch copy of the checkout, the libraries of a C++ mutant are built there, and its
modules run until the first failure. Bazel's flags are the checkout's, so a disk cache
in .bazelrc.user serves here too. A mutant that no test kills asks for a better test.
What was run is kept in build/mutants.json until the mutant changes; so a run can be
interrupted.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from tests.mutant_table import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "mutants.json"
PATIENCE = 1200  # seconds of a run of tests, after which it counts as killed


def files():
    """What git knows, and what it would: the checkout without what is built."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = filter(None, listed.stdout.split("\0"))
    return [name for name in names if (ROOT / name).is_file()]


def mutated(mutant):
    """The text of its file with the substitution.

    Raises:
        ValueError: unless what it replaces is there exactly once.
    """
    text = (ROOT / mutant.path).read_text()
    count = text.count(mutant.old)
    if count != 1 or mutant.old == mutant.new:
        raise ValueError(
            f"mutant {mutant.name}: {mutant.path} must hold the text {mutant.old!r} "
            f"exactly once. Received: {count} times."
        )
    return text.replace(mutant.old, mutant.new)


class Scratch:
    """A copy of the checkout that mutants are applied to, one at a time."""

    def __init__(self, folder):
        self.folder = folder
        known = set()
        for name in files():
            known.add(name)
            self.restore(name)
        for path in folder.rglob("*.py"):  # deleted since
            name = str(path.relative_to(folder))
            if name.startswith(("tests/", "tf_optim/")) and name not in known:
                path.unlink()
        if (ROOT / ".bazelrc.user").exists():
            shutil.copy(ROOT / ".bazelrc.user", folder)

    def restore(self, name):
        """Writes the checkout's file, unless it is there: builds look at times."""
        self.write(name, (ROOT / name).read_bytes())

    def write(self, name, content):
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
            shutil.copymode(ROOT / name, target)

    def use_built_libraries(self):
        """Those of the checkout, for mutants of Python."""
        link = self.folder / "bazel-bin"
        link.unlink(missing_ok=True)
        link.symlink_to((ROOT / "bazel-bin").resolve())

    def build(self, libraries):
        """Builds them here; raises CalledProcessError if it cannot."""
        (self.folder / "bazel-bin").unlink(missing_ok=True)
        environment = {**os.environ, "TF_OPTIM_PYTHON": sys.executable}
        bazel = shutil.which("bazel") or shutil.which("bazelisk")
        for command in (
            ["./configure.sh"],
            [bazel, "build", *(f"//:{name}" for name in libraries)],
        ):
            subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )

    def test(self, tests):
        """pytest's exit status, 1 if it hangs, and the end of what it said."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        with tempfile.TemporaryFile("w+") as output:
            ran = subprocess.Popen(
                [*command, *tests],
                cwd=self.folder,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = ran.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(ran.pid, signal.SIGKILL)
                ran.wait()
                return 1, "hangs"
            output.seek(0)
            return status, output.read()[-3000:]


def run(mutant, scratch):
    """ "killed" by what, "survived", or why it says nothing."""
    content = mutated(mutant)
    began = time.monotonic()
    try:
        scratch.write(mutant.path, content.encode())
        if mutant.is_compiled:
            try:
                scratch.build(mutant.libraries)
            except subprocess.CalledProcessError as error:
                last = [line for line in error.stderr.splitlines() if "error" in line]
                return {"result": "not built", "by": " ".join(last)[:300]}
        else:
            scratch.use_built_libraries()
        status, said = scratch.test(mutant.tests)
    finally:
        scratch.restore(mutant.path)
    # From 2 to 5 pytest complains of its arguments: a mistake of the table. Below 0 the
    # mutant has ended the process.
    result = {0: "survived", 1: "killed"}.get(max(status, -1), "no test ran")
    if status < 0:
        result, said = "killed", f"signal {-status}"
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    by = failed[0].split(" - ")[0].removeprefix("FAILED ") if failed else said[-300:]
    return {
        "result": result,
        "by": by if status else "",
        "seconds": round(time.monotonic() - began),
    }


def key(mutant):
    return hashlib.sha256(repr(dataclasses.astuple(mutant)).encode()).hexdigest()[:16]


def read_results():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", help="of mutants; default: all not run yet")
    parser.add_argument("--list", action="store_true", help="list them, run none")
    parser.add_argument("--python", action="store_true", help="those of Python alone")
    parser.add_argument(
        "--scratch", type=pathlib.Path, default=ROOT / "build" / "mutants"
    )
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := set(options.names) - set(known):
        parser.error(f"mutants must be some of {', '.join(known)}. Received: {unknown}")
    if options.list:
        for mutant in MUTANTS:
            mutated(mutant)
            print(f"{mutant.name:34} {mutant.path:36} {' '.join(mutant.tests)}")
        return 0
    results = read_results()
    chosen = [known[name] for name in options.names] or [
        mutant
        for mutant in MUTANTS
        if key(mutant) not in results and not (options.python and mutant.is_compiled)
    ]
    if chosen:
        scratch = Scratch(options.scratch)
    # Compiled ones last, so that the copy's own libraries stay.
    for mutant in sorted(chosen, key=lambda mutant: mutant.is_compiled):
        result = {"name": mutant.name, **run(mutant, scratch)}
        results = read_results() | {key(mutant): result}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))
        print(f"{mutant.name:34} {result['result']:10} {result['by']}", flush=True)
    return summary(results)


def summary(results):
    """Prints the table; 1 if a mutant of it survived or was not run."""
    table = [results.get(key(mutant), {"result": "not run"}) for mutant in MUTANTS]
    counts = {}
    for mutant, row in zip(MUTANTS, table, strict=True):
        counts[row["result"]] = counts.get(row["result"], 0) + 1
        print(f"{mutant.name:34} {row['result']:10} {row.get('by', '')}")
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return int(set(counts) != {"killed"})


if __name__ == "__main__":
    sys.exit(main())
