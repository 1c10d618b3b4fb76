"""Runs tests marked `both_flavours` a second time, under tf_keras.

`tf.keras` is Keras 3 or tf_keras (TF_USE_LEGACY_KERAS=1) for the life of a
process. So each marked test gets a twin, `<name> (tf_keras)`, and the twins that
are selected run in a child pytest, those of a module when the first of them is
due: of several processes that share the modules (`-n 2 --dist loadfile`), each
has a child for its own. A twin passes, fails or is skipped as its test does in the
child, and counts as one test. The child collects a module when it is asked to run
it. What is marked `keras_3_only` as well has no twin.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata

import pytest
from packaging.version import Version

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")
# Where the child reads modules and writes reports: two file descriptors.
_PIPES = "TF_OPTIM_TEST_PIPES"
IS_CHILD = LEGACY and _PIPES in os.environ
SUFFIX = " (tf_keras)"


def pytest_configure(config):
    config.stash[_CHILD] = _Child(config)


@pytest.hookimpl(tryfirst=True)  # so that -k selects among the twins too
def pytest_collection_modifyitems(items):
    if LEGACY:
        return
    items += [
        _Twin.from_parent(item.parent, name=f"{item.name}{SUFFIX}", original=item)
        for item in items
        if item.get_closest_marker("both_flavours")
        and not item.get_closest_marker("keras_3_only")
    ]


def pytest_runtest_setup(item):
    if LEGACY and item.get_closest_marker("keras_3_only"):
        pytest.skip("tf_keras has no such thing")


class _Twin(pytest.Item):
    def __init__(self, *, original, **arguments):
        super().__init__(**arguments)
        self.original = original
        self.twin_of = original.nodeid

    def runtest(self):
        report = self.config.stash[_CHILD].report(self)
        if report["outcome"] == "skipped":
            pytest.skip(report["text"])
        if report["outcome"] == "failed":
            raise _Failed(report["text"])

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, _Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, self.name


class _Failed(Exception):
    """Carries the child's report of a failed test."""


class _Child:
    """The child pytest: starts with the first twin, runs a module when asked to.

    One that has died fails the twins of the module that it ran; the next module
    starts another.
    """

    def __init__(self, config):
        self.config = config
        self.process = None
        self.asked = set()
        self.died = {}
        self.reports = {}

    def report(self, twin):
        module = _module(twin.twin_of)
        if module not in self.asked:
            self.asked.add(module)
            twins = [i.twin_of for i in twin.session.items if isinstance(i, _Twin)]
            self._ask([name for name in twins if _module(name) == module])
        while not self.reports.keys() & {twin.twin_of, module}:
            if module not in self.died:
                line = self.lines.readline()
                if line:
                    report = json.loads(line)
                    self.reports[report["nodeid"]] = report
                    continue
                self.died[module] = self._end()
            raise _Failed(self.died[module])
        if twin.twin_of not in self.reports:
            raise _Failed("the tf_keras run has no such test")
        return self.reports[twin.twin_of]

    def _ask(self, names):
        if self.process is None:
            self._start(names)
        with contextlib.suppress(BrokenPipeError):  # what it printed is shown later
            print(json.dumps(names), file=self.modules, flush=True)

    def _start(self, names):
        with tempfile.NamedTemporaryFile("w", delete=False) as first:
            first.write("\n".join(names))
        self.first = first.name
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        its_input, modules = os.pipe()
        lines, its_output = os.pipe()
        # Of several processes it is the child of one, and not one of them.
        environment = {k: v for k, v in os.environ.items() if "XDIST" not in k}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
            + [f"--rootdir={self.config.rootpath}", f"@{self.first}"],
            cwd=self.config.rootpath,
            env={
                **environment,
                "TF_USE_LEGACY_KERAS": "1",
                _PIPES: f"{its_input} {its_output}",
            },
            pass_fds=[its_input, its_output],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        os.close(its_input)
        os.close(its_output)
        self.modules, self.lines = os.fdopen(modules, "w"), os.fdopen(lines)

    def _end(self):
        """Waits for a child that has ended; what to say of it."""
        self.process.wait()
        self.output.seek(0)
        said = (
            f"the tf_keras run ended (exit code {self.process.returncode}) "
            f"without this test; its output:\n{self.output.read()[-8000:]}"
        )
        self.close()
        return said

    def close(self):
        if self.process is None:
            return
        self.process.terminate()  # what it has left to do, nobody waits for
        self.process.wait()
        self.process = None
        os.unlink(self.first)
        with contextlib.suppress(BrokenPipeError):
            self.modules.close()


_CHILD = pytest.StashKey[_Child]()


def pytest_unconfigure(config):
    config.stash[_CHILD].close()


# In the child: the tests of each module that comes in, one line for each that ends.


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    if not IS_CHILD or session.testsfailed:
        return None
    asked, answers = map(int, os.environ[_PIPES].split())
    with os.fdopen(asked) as asked, os.fdopen(answers, "w", 1) as answers:
        for number, line in enumerate(asked):
            names = json.loads(line)
            if number:  # the first are collected already
                session.perform_collect(names)
            if session.testsfailed:
                raise session.Failed("a module cannot be collected")
            for item, after in itertools.zip_longest(session.items, session.items[1:]):
                _outcome.clear()
                item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
                print(json.dumps({"nodeid": item.nodeid, **_outcome}), file=answers)
            session.testsfailed = 0  # of tests, which have been answered for
            print(json.dumps({"nodeid": _module(names[0])}), file=answers)  # its end
    return True


def _module(nodeid):
    return nodeid.split("::", 1)[0]


_outcome = {}


def pytest_runtest_logreport(report):
    # Three reports (setup, call, teardown) make one outcome: the worst.
    if _outcome.get("outcome") == "failed":
        return
    if report.failed or report.skipped or not _outcome:
        text = report.longreprtext
        if report.skipped and isinstance(report.longrepr, tuple):
            text = report.longrepr[2].removeprefix("Skipped: ")
        if report.failed:
            text += "".join(f"\n--- {name}\n{body}" for name, body in report.sections)
        _outcome.update(outcome=report.outcome, text=text)


def is_keras_before(release):
    """Whether this is a Keras 3 older than a release, as "3.5"."""
    return not LEGACY and Version(metadata.version("keras")) < Version(release)
