"""Runs tests marked `both_flavours` a second time, under tf_keras.

`tf.keras` is Keras 3 or tf_keras (TF_USE_LEGACY_KERAS=1) for the life of a
process. So each marked test gets a twin, `<name> (tf_keras)`, and all twins that
are selected run in one child pytest. A twin passes, fails or is skipped as its
test does in the child, and counts as one test.
"""

import json
import os
import subprocess
import sys
import tempfile

import pytest

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")
_REPORTS = "TF_OPTIM_TEST_REPORTS"  # where the child writes: a file descriptor


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "both_flavours: run under Keras 3 and under tf_keras."
    )
    config.stash[_CHILD] = _Child(config)


@pytest.hookimpl(tryfirst=True)  # so that -k selects among the twins too
def pytest_collection_modifyitems(items):
    if LEGACY:
        return
    items += [
        _Twin.from_parent(item.parent, name=f"{item.name} (tf_keras)", twin_of=item)
        for item in items
        if item.get_closest_marker("both_flavours")
    ]


class _Twin(pytest.Item):
    def __init__(self, *, twin_of, **arguments):
        super().__init__(**arguments)
        self.twin_of = twin_of.nodeid

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
    """The child pytest: starts with the first twin, reports as it goes."""

    def __init__(self, config):
        self.config = config
        self.process = None
        self.reports = {}

    def report(self, twin):
        if self.process is None:
            self._start([i for i in twin.session.items if isinstance(i, _Twin)])
        while twin.twin_of not in self.reports:
            line = self.lines.readline()
            if not line:
                self.process.wait()
                self.output.seek(0)
                raise _Failed(
                    f"the tf_keras run ended (exit code {self.process.returncode}) "
                    f"without this test; its output:\n{self.output.read()[-8000:]}"
                )
            report = json.loads(line)
            self.reports[report["nodeid"]] = report
        return self.reports[twin.twin_of]

    def _start(self, twins):
        with tempfile.NamedTemporaryFile("w", delete=False) as names:
            names.write("\n".join(twin.twin_of for twin in twins))
        self.names = names.name
        self.count = len(twins)
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
            + [f"--rootdir={self.config.rootpath}", f"@{self.names}"],
            cwd=self.config.rootpath,
            env={
                **os.environ,
                "TF_USE_LEGACY_KERAS": "1",
                _REPORTS: str(write_end),
            },
            pass_fds=[write_end],
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        os.close(write_end)
        self.lines = os.fdopen(read_end)

    def close(self):
        if self.process is None:
            return
        if len(self.reports) < self.count:  # stopped early, by -x or Ctrl-C
            self.process.terminate()
        self.process.wait()
        os.unlink(self.names)


_CHILD = pytest.StashKey[_Child]()


def pytest_unconfigure(config):
    config.stash[_CHILD].close()


# In the child: one line for each finished test.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    _outcome.clear()
    result = yield
    if LEGACY and _REPORTS in os.environ:
        line = json.dumps({"nodeid": item.nodeid, **_outcome}) + "\n"
        with os.fdopen(int(os.environ[_REPORTS]), "w", closefd=False) as pipe:
            pipe.write(line)
    return result


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
