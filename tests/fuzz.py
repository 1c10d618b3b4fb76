"""Random programs against the reference, and hostile calls of the raw ops.

    python -m tests.fuzz --minutes N [--seed S]

Prints each kind of failure once, as the smallest program that hypothesis finds. The
programs run in child processes, under both Kerases, so that one that ends its
process is seen too. Exit code 1 if anything failed.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 100  # examples between two looks at the clock
HANGS_AFTER = 300  # seconds without a new program

# name -> (environment, share of the time)
PARTS = {
    "programs": ({"TF_USE_LEGACY_KERAS": "0"}, 0.5),
    "programs of tf_keras": ({"TF_USE_LEGACY_KERAS": "1"}, 0.25),
    "ops": ({"TF_USE_LEGACY_KERAS": "0"}, 0.25),
}


def signature(example, error):
    """What failures of one kind have in common."""
    kind = getattr(error, "kind", type(error).__name__)
    if kind == "no error":  # the text is the same for all
        text = [name for name, _ in getattr(example, "hostile", ())] or example.wrong
    else:
        text = re.sub(r"[-+]?[\d.]+(e[-+]?\d+)?", "#", str(error))[:100]
    return json.dumps([example.case.name, kind, text])


class Search:
    """Draws examples of one part and runs them."""

    def __init__(self, part, report, journal=None):
        from tests import fuzz_draw, fuzz_ops, fuzz_programs

        if part == "ops":
            self.draw, self.run = fuzz_ops.calls, fuzz_ops.run
            self.printed = fuzz_ops.printed
        else:
            self.draw, self.run = fuzz_draw.programs, fuzz_programs.run
            self.printed = fuzz_draw.printed
        self.report, self.journal = report, journal
        self.count, self.seen = 0, set()

    def batch(self, examples, seed=None, **drawing):
        """Runs so many examples; reports the smallest of a new kind that fails."""
        import hypothesis

        failed = {}

        @hypothesis.settings(
            max_examples=examples,
            derandomize=seed is None,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(self.draw(**drawing))
        def test(example):
            self.count += 1
            if self.journal:
                self.journal.write_text(f"{self.count}\n{self.printed(example)}")
            try:
                self.run(example)
            except Exception as error:
                kind = signature(example, error)
                if kind in self.seen:
                    return
                failed.update(kind=kind, example=example, error=error)
                raise

        if seed is not None:
            test = hypothesis.seed(seed)(test)
        try:
            test()
        except Exception:
            if not failed:
                raise
            self.seen.add(failed["kind"])
            printed = self.printed(failed["example"])
            error = failed["error"]
            self.report(f"{type(error).__name__}: {error}\n{printed}")


def inside(part, seed, seconds, folder):
    """In the child: searches until time is up; counts and failures go to files."""
    folder = pathlib.Path(folder)
    failures = open(folder / "failures", "a")  # noqa: SIM115  as long as the process

    def report(text):
        print(json.dumps(text), file=failures, flush=True)

    search = Search(part, report, folder / "journal")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        search.batch(BATCH, seed)
        seed += 1


def run_part(part, seed, seconds):
    """Runs a part in children, one after the other where one dies.

    Returns:
      `(examples run, failures)`.
    """
    environment, _ = PARTS[part]
    count, failures, end = 0, [], time.monotonic() + seconds
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            left = end - time.monotonic()
            command = [sys.executable, "-m", "tests.fuzz", "--inside", part, folder]
            command += ["--seed", str(seed), "--seconds", str(left)]
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            journal = pathlib.Path(folder, "journal")
            output, why = _wait(child, journal)
            last = journal.read_text() if journal.exists() else "0\n"
            number, _, program = last.partition("\n")
            count += int(number or 0)
            lines = pathlib.Path(folder, "failures")
            if lines.exists():
                failures += map(json.loads, lines.read_text().splitlines())
            if why:
                failures.append(f"{why}\n{program}\n{output[-4000:]}")
                seed += 1_000_000
                if not int(number or 0):
                    break  # not the fault of a program
    return count, failures


def _wait(child, journal):
    """`(output, why it ended)`; why is empty if all went well."""
    before = None
    while True:
        try:
            output, _ = child.communicate(timeout=HANGS_AFTER)
        except subprocess.TimeoutExpired:
            now = journal.read_text() if journal.exists() else None
            if now != before:
                before = now
                continue
            child.kill()
            output, _ = child.communicate()
            return output.decode(errors="replace"), "the process hangs"
        why = f"the process ended with {child.returncode}" if child.returncode else ""
        return output.decode(errors="replace"), why


def main():
    """Prints what failed, and how many programs ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        part, folder = arguments.inside
        inside(part, arguments.seed, arguments.seconds, folder)
        return 0
    counts, failed = collections.Counter(), False
    for part in [arguments.part] if arguments.part else PARTS:
        share = 1 if arguments.part else PARTS[part][1]
        seconds = 60 * arguments.minutes * share
        counts[part], failures = run_part(part, arguments.seed, seconds)
        for failure in failures:
            failed = True
            print(f"--- {part}\n{failure}\n", flush=True)
        print(f"{part}: {counts[part]} run, {len(failures)} failed", flush=True)
    print(f"{counts.total()} run")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
