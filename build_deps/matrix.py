"""Builds and tests each TensorFlow with each Python, and says what came of it.

python -m build_deps.matrix                      everything that has no record yet
python -m build_deps.matrix --only 2.18 3.12     what has these in its name
python -m build_deps.matrix --list

Each combination has a copy of the checkout and an environment of its own in
build/matrix; both go when it is done (--keep). A run that was stopped goes on where it
was. The records are in docs/compatibility.json, the table in docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

from build_deps import versions
from build_deps.compatibility import write_page

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "matrix"
RECORDS = ROOT / "docs" / "compatibility.json"
TARGETS = ["//:_native.so", "//:_tf_optim_ops.so", "//:_tf_optim_xla.so"]

# With the newest Keras: each kind of step, state, Keras' features, XLA; in both
# flavours of Keras.
CORE = ["training", "features", "sparse", "exact", "wrappers", "checkpoint"]
CORE += ["graph_order", "accumulation", "kept", "keras_private", "multi"]
CORE += ["xla", "xla_calls"]
# With the Keras of TensorFlow's time: what Keras has a part in.
OF_KERAS = ["training", "features", "exact", "wrappers", "keras_private", "multi"]


@dataclasses.dataclass(frozen=True)
class Combination:
    tensorflow: str
    python: str

    @property
    def name(self):
        return f"tensorflow {self.tensorflow}, python {self.python}"

    @property
    def folder(self):
        return FOLDER / f"tf{self.tensorflow}-py{self.python}"

    @property
    def release(self):
        return versions.RELEASES[self.tensorflow]


def combinations():
    """All there are; the newest TensorFlow, and Python 3.11, first."""
    every = [
        Combination(minor, python)
        for minor, release in versions.RELEASES.items()
        for python in release.pythons
    ]
    return sorted(every, key=lambda each: each.python != "3.11")


def find_python(version):
    """An interpreter of that version; None if there is none."""
    pyenv = pathlib.Path.home() / ".pyenv" / "versions"
    for candidate in [
        f"python{version}",
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ]:
        asked = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            found = subprocess.run(
                [candidate, "-c", asked], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        if found.stdout.strip() == version:
            return candidate
    return None


def tracked():
    """The files of the checkout, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def commit():
    """What the checkout is of; with a star if it has changed since.

    The records themselves, which a run before this one has changed, do not count.
    """

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    records = ":(exclude)docs/compatibility.*"
    changed = git("status", "--porcelain", "--", ".", records)
    return git("rev-parse", "--short", "HEAD") + ("*" if changed else "")


class Run:
    """One combination, from nothing to its record."""

    def __init__(self, combination, jobs):
        self.combination = combination
        self.folder = combination.folder
        self.source = self.folder / "source"
        self.python = self.folder / "venv" / "bin" / "python"
        self.jobs = jobs
        self.log = self.folder / "log.txt"
        self.copied = self.folder / "commit.txt"

    def command(self, *command, check=True):
        environment = {**os.environ, "VIRTUAL_ENV": str(self.python.parents[1])}
        for name in ("PYTHONPATH", "TF_VERSION", "TF_USE_LEGACY_KERAS"):
            environment.pop(name, None)
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        with self.log.open("a") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n")
            log.flush()
            return subprocess.run(
                list(map(str, command)),
                cwd=self.source,
                env=environment | {"TF_VERSION": self.combination.tensorflow},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=check,
            )

    def stage(self, name, work):
        """Once: a run that was stopped behind it does not do it again."""
        mark = self.folder / f"{name}.done"
        if mark.exists():
            return
        print(f"    {name} ...", end="", flush=True)
        began = time.monotonic()
        work()
        mark.touch()
        print(f" {time.monotonic() - began:.0f} s", flush=True)

    def copy(self):
        shutil.rmtree(self.source, ignore_errors=True)
        for name in tracked():
            target = self.source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        own = ROOT / ".bazelrc.user"
        flags = f"build --disk_cache={FOLDER / 'cache'}\n"
        text = own.read_text() if own.exists() else flags
        (self.source / ".bazelrc.user").write_text(text)
        self.copied.write_text(commit())

    def make_environment(self):
        base = find_python(self.combination.python)
        subprocess.run(
            [base, "-m", "venv", "--clear", self.folder / "venv"], check=True
        )
        self.command(self.python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")

    def build(self):
        os.environ.setdefault("HIGHWAY_INCLUDE", str(self.highway()))
        self.command("./configure.sh")
        self.command("bazel", "build", f"--jobs={self.jobs}", *TARGETS)

    def highway(self):
        """Of one place for all combinations: the same headers, compiled once."""
        from build_deps import highway

        if (highway.version_in(highway.CACHE) or (0, 0)) < highway.LEAST:
            highway.fetch()
        return highway.CACHE

    def facts(self):
        asked = (
            "import json, keras, numpy, tensorflow, tf_keras, tf_optim;"
            "print(json.dumps({m.__name__: m.__version__ for m in "
            "(keras, numpy, tensorflow, tf_keras)}))"
        )
        said = subprocess.run(
            [self.python, "-c", asked],
            cwd=self.source,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(said.stdout.splitlines()[-1])

    def test(self, modules, report):
        """Runs test modules; how many passed, and which did not."""
        path = self.folder / report
        files = [f"tests/{module}_test.py" for module in modules]
        self.command(
            *[self.python, "-m", "pytest", "-q", *files, f"--junit-xml={path}"],
            check=False,
        )
        counts = {"passed": 0, "skipped": 0, "failed": []}
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                counts["failed"].append(name)
            elif case.find("skipped") is not None:
                counts["skipped"] += 1
            else:
                counts["passed"] += 1
        return {**self.facts(), "modules": modules, **counts}

    def tested(self, modules, report):
        """The same, once."""
        path = self.folder / f"{report}.json"

        def work():
            path.write_text(json.dumps(self.test(modules, f"{report}.xml")))

        self.stage(report, work)
        return json.loads(path.read_text())

    def record(self):
        """Does everything that is not done yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stage("copy", self.copy)
        self.stage("environment", self.make_environment)
        self.stage("build", self.build)
        runs = [self.tested(CORE, "tests")]
        release = self.combination.release
        if self.combination.python == "3.11":
            self.stage(
                f"keras-{release.keras}",
                lambda: self.command(
                    *[self.python, "-m", "pip", "install", "--quiet"],
                    f"keras=={release.keras}",
                ),
            )
            runs.append(self.tested(OF_KERAS, f"tests-keras-{release.keras}"))
        return {
            "date": datetime.date.today().isoformat(),
            "commit": self.copied.read_text(),
            "python": self.combination.python,
            "jit": release.jit,
            "runs": runs,
        }

    def clean(self):
        if self.source.exists():
            self.command("bazel", "clean", "--expunge", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m build_deps.matrix", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="VERSION")
    parser.add_argument("--again", action="store_true", help="what has a record too")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="say what there is, end")
    return parser.parse_args(arguments)


def main(arguments=None):
    args = parse_arguments(arguments)
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    chosen = [
        each
        for each in combinations()
        if all(f" {word}" in each.name.replace(",", " ,") for word in args.only)
    ]
    left = [each for each in chosen if args.again or each.name not in records]
    if args.list:
        for each in chosen:
            print(each.name, "" if each in left else "(has a record)")
        return 0
    for number, each in enumerate(left, 1):
        print(f"[{number}/{len(left)}] {each.name}", flush=True)
        if find_python(each.python) is None:
            print(f"    there is no Python {each.python} here")
            continue
        run = Run(each, args.jobs)
        try:
            records[each.name] = run.record()
        except subprocess.CalledProcessError as error:
            print(f"\n    failed: {error}; {run.log} says why", flush=True)
            continue
        failed = sum((r["failed"] for r in records[each.name]["runs"]), [])
        print(f"    {len(failed)} failed {' '.join(failed[:3])}", flush=True)
        RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
        if not args.keep:
            run.clean()
    print(write_page(records))
    return int(any(r["failed"] for each in records.values() for r in each["runs"]))


if __name__ == "__main__":
    sys.exit(main())
