"""Runs the optimizer tests of Keras or tf_keras on our classes.

    python -m tests.peers DIR

DIR holds a checkout of either, or is a site-packages folder: Keras' wheel has its
tests. Ours stand in stock's place, with `sparse_update="dense"`, also where their
step is another one than stock's. Every test passes or is listed below with the
reason; one that is listed and passes is an error too.
"""

import argparse
import collections
import dataclasses
import functools
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Peer:
    """A Keras and its tests.

    Attributes:
      name: its name in tables.
      processes: for each process the patterns of the files that it runs.
      environment: what chooses this Keras.
      accepted: test -> why it does not pass.
      left_out: pytest's -k; what cannot run here with stock either.
    """

    name: str
    processes: tuple
    environment: dict
    accepted: dict
    left_out: str = ""

    def files(self, folder, names=()):
        """Lists of test files, one per process; only those of `names` if given."""
        for patterns in self.processes:
            found = [p for pattern in patterns for p in sorted(folder.glob(pattern))]
            found = [p for p in found if not names or p.name in names]
            if found:
                yield found


_HOW_STOCK_ASSIGNS = "It asks for stock's way to a result: an `assign` of rows."
_OWN_WORDS = "Our error says what is expected and what came, in words of its own."

KERAS = Peer(
    name="keras",
    processes=(
        ("keras/src/optimizers/*_test.py",),
        # It gives the process two devices.
        ("keras/src/backend/tensorflow/optimizer_distribute_test.py",),
    ),
    environment={"TF_USE_LEGACY_KERAS": "0"},
    accepted={
        **{
            f"optimizer_sparse_test.py::OptimizerSparseTest::{name}": _HOW_STOCK_ASSIGNS
            for name in (
                "test_sparse_gradients_adadelta",
                "test_sparse_gradients_adafactor",
                "test_sparse_gradients_adagrad",
                "test_sparse_gradients_loss_scale_optimizer_sgd",
                "test_sparse_gradients_rmsprop",
                "test_sparse_gradients_sgd",
            )
        },
        "optimizer_test.py::OptimizerTest::test_set_weights": _OWN_WORDS,
        "optimizer_distribute_test.py::OptimizerDistributeTest::"
        "test_gradient_accumulation": (
            "Its replicas pass one and the same tensor, which tf.distribute takes for "
            "a sum. Ours adds gradients up over replicas before it accumulates them, "
            "stock after that, when they are tensors of their own."
        ),
    },
)

TF_KERAS = Peer(
    name="tf_keras",
    processes=(
        ("tf_keras/optimizers/optimizer_test.py", "tf_keras/optimizers/lion_test.py"),
    ),
    environment={"TF_USE_LEGACY_KERAS": "1"},
    accepted={
        f"optimizer_test.py::OptimizerFuntionalityTest::{name}": reason
        for name, reason in {
            "testGetAndFromConfig": (
                "It expects to be the main program, and fails with stock too."
            ),
            "testPassingLegacyArgsRaiseError": "Ours takes `decay`.",
            "testSetWeights": _OWN_WORDS,
            "testVariableConstraints": (
                "Its gradient has shape [1] and the variable [1, 1]: ours refuses a "
                "gradient of another shape, stock repeats it."
            ),
            "test_convert_to_legacy_optimizer": (
                "tf_keras' legacy optimizers have no `sparse_update`."
            ),
        }.items()
    },
    # TensorFlow's runner starts workers from a main program of its own.
    left_out="not MultiWorker",
)

PEERS = (KERAS, TF_KERAS)


def _text_for_wheel(peer, text):
    """A checkout of tf_keras calls its modules other names than its wheel does."""
    if peer is TF_KERAS:
        text = re.sub(r"(?m)^from tf_keras\.(?!src\b)", "from tf_keras.src.", text)
        text = re.sub(r"(?m)^import tf_keras as", "import tf_keras.src as", text)
    return text


def run(peer, folder, names=(), stock=False):
    """Runs the peer's tests in child processes.

    Args:
      peer: one of `PEERS`.
      folder: holds the tests.
      names: the files to run. Default: all.
      stock: whether stock's own classes stay in their place.

    Returns:
      test -> {"outcome", "ours" (the classes of ours that it made one of), "text"}.
    """
    reports = {}
    for files in peer.files(pathlib.Path(folder), names):
        with tempfile.TemporaryDirectory() as work:
            for file in files:
                text = _text_for_wheel(peer, file.read_text())
                (pathlib.Path(work) / file.name).write_text(text)
            output = pathlib.Path(work) / "reports"
            command = [sys.executable, "-m", "tests.peers", "--inside", str(output)]
            child = subprocess.run(
                [*command, *["--stock"] * stock, work, peer.left_out],
                cwd=ROOT,
                env={
                    **{k: v for k, v in os.environ.items() if "XDIST" not in k},
                    # Replicas on two devices wait for each other in these.
                    "TF_NUM_INTEROP_THREADS": "8",
                    **peer.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            lines = output.read_text().splitlines() if output.exists() else []
        if child.returncode not in (0, 1):  # all passed, some failed
            raise RuntimeError(
                f"The tests of {peer.name} ended with exit code {child.returncode}:\n"
                f"{child.stdout[-4000:]}"
            )
        for report in map(json.loads, lines):
            reports[report.pop("test")] = report
    return reports


def verdicts(peer, reports):
    """test -> "pass", "fail", "accepted", "fixed" (listed, and passes), "skipped",
    "not ours" (makes no optimizer of ours) or "gone" (listed, and not there)."""
    names = {"passed": "pass", "failed": "fail"}
    result = {}
    for test, report in reports.items():
        verdict = names.get(report["outcome"], report["outcome"])
        if verdict == "pass" and not report["ours"]:
            verdict = "not ours"
        if test in peer.accepted:
            verdict = {"pass": "fixed", "fail": "accepted"}.get(verdict, verdict)
        result[test] = verdict
    files = {test.split("::")[0] for test in reports}
    for test in peer.accepted.keys() - reports.keys():
        if test.split("::")[0] in files:
            result[test] = "gone"
    return result


WRONG = ("fail", "fixed", "gone")
COLUMNS = ("pass", "accepted", "not ours", "skipped", *WRONG)


def table(result):
    """One line per file, and their sum."""
    counts = collections.defaultdict(collections.Counter)
    for test, verdict in result.items():
        for row in (test.split("::")[0], "all"):
            counts[row][verdict] += 1
    width = max(map(len, counts), default=3)
    lines = ["  ".join(["file".ljust(width), *COLUMNS])]
    for row in [*sorted(counts.keys() - {"all"}), "all"]:
        cells = [str(counts[row][c] or "").rjust(len(c)) for c in COLUMNS]
        lines.append("  ".join([row.ljust(width), *cells]))
    return "\n".join(lines)


def explained(peer, reports, result):
    """What is wrong, test by test, and what is accepted, reason by reason."""
    for test, verdict in result.items():
        if verdict in WRONG:
            text = reports.get(test, {}).get("text", "")
            yield f"{verdict}: {test}\n{text}" if text else f"{verdict}: {test}"
    by_reason = collections.defaultdict(list)
    for test, verdict in result.items():
        if verdict == "accepted":
            by_reason[peer.accepted[test]].append(test)
    for reason, tests in by_reason.items():
        yield "\n  ".join([f"accepted: {reason}", *tests])


# In the child.


def _with_dense_updates(cls):
    init = cls.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        given = signature.bind_partial(self, *args, **kwargs).arguments
        if "sparse_update" not in given:
            kwargs["sparse_update"] = "dense"
        init(self, *args, **kwargs)

    cls.__init__ = __init__


def _replace(stock, ours):
    """Puts our class wherever a module of Keras' says stock's."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("keras", "tf_keras") or module is None:
            continue
        for key, value in list(vars(module).items()):
            if value is stock:
                setattr(module, key, ours)
            elif isinstance(value, dict) and not key.startswith("__"):
                found = [k for k, v in value.items() if v is stock]
                value.update(dict.fromkeys(found, ours))


class _Reporter:
    """A pytest plugin: writes a line for each test that ends."""

    def __init__(self, path, fused):
        self.file = open(path, "w")  # noqa: SIM115  open as long as the process
        self.ours = set()
        init = fused.__init__

        @functools.wraps(init)
        def __init__(optimizer, *args, **kwargs):
            self.ours.add(type(optimizer).__name__)
            init(optimizer, *args, **kwargs)

        fused.__init__ = __init__

    def pytest_runtest_logstart(self):
        self.ours.clear()
        self.outcome, self.text = "", ""

    def pytest_runtest_logreport(self, report):
        if self.outcome != "failed" and (not self.outcome or not report.passed):
            self.outcome, self.text = report.outcome, report.longreprtext

    def pytest_runtest_logfinish(self, nodeid):
        line = {"test": nodeid, "outcome": self.outcome, "ours": sorted(self.ours)}
        text = self.text if self.outcome == "failed" else ""
        print(json.dumps({**line, "text": text}), file=self.file, flush=True)


def inside(output, folder, chosen, stock):
    """Runs the test files in `folder`; returns pytest's exit code."""
    import pytest
    import tensorflow as tf

    from tf_optim import conversion, fused

    tf.keras.optimizers.Adam  # noqa: B018  now all of its modules are loaded
    sys.argv[1:] = []  # some tests read flags
    for theirs, ours in [] if stock else conversion.namesakes():
        _with_dense_updates(ours)
        _replace(theirs, ours)
    files = sorted(str(p) for p in pathlib.Path(folder).glob("*_test.py"))
    options = [f"--rootdir={folder}", "-c", os.devnull, "-p", "no:cacheprovider"]
    options += ["-k", chosen] if chosen else []
    return pytest.main([*options, *files], [_Reporter(output, fused.Fused)])


def main():
    """Prints a table for each peer that the folder holds; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", help="holds a checkout of keras or of tf-keras")
    parser.add_argument("--inside", metavar="OUTPUT", help=argparse.SUPPRESS)
    parser.add_argument("--stock", action="store_true", help="run stock's own classes")
    parser.add_argument("names", nargs="*", help="only these files")
    arguments = parser.parse_args()
    if arguments.inside:
        chosen = " ".join(arguments.names)
        return inside(arguments.inside, arguments.dir, chosen, arguments.stock)
    wrong = found = 0
    for peer in PEERS:
        reports = run(peer, arguments.dir, arguments.names, arguments.stock)
        if not reports:
            continue
        found += 1
        result = verdicts(peer, reports)
        print(*explained(peer, reports, result), sep="\n\n", end="\n\n")
        print(f"{peer.name}:\n{table(result)}\n")
        wrong += sum(verdict in WRONG for verdict in result.values())
    if not found:
        parser.error(f"no optimizer tests of keras or tf_keras in {arguments.dir}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
