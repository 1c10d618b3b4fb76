"""The same bytes from any number of TensorFlow's threads, and any instruction set.

A process has one pool and one set, so each is a process of its own.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests import cases, style_test
from tf_optim import library

STEPS = """
import sys
import numpy as np
import tensorflow as tf
from tests import adafactor_ops_test, cases, norms_test, numerics
from tests.raw_ops import Variables
from tf_optim import library

saved = {"norms": np.frombuffer(norms_test.many_norms().tobytes(), np.uint8)}
strange = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)
strange[:, 7::50] = [0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30]
strange[3, 100] = np.inf
for is_signed in (False, True):
    packed = library.ops().tf_optim_pack_slot(plain=strange, is_signed=is_signed)
    saved[f"packed {is_signed}"] = packed.numpy().ravel()
received = adafactor_ops_test.both_ops(*adafactor_ops_test.drawn("float32"))
for i, each in enumerate(tf.nest.flatten(received)):
    saved[f"Adafactor {i}"] = np.frombuffer(each.numpy().tobytes(), np.uint8)
for case in cases.KINDS:
    rng = np.random.default_rng(0)
    # Long enough for all threads; one shorter than a vector; one of a number.
    drawn = [numerics.draw(rng, case, n, "float32") for n in (400_003, 5, 1)]
    table, slots, _ = numerics.draw(rng, case, (5000, 33), "float32")
    ids = (rng.zipf(1.2, size=30_000) % 5000).astype(np.int64)
    rows = rng.normal(size=(len(ids), 33)).astype(np.float32)
    dense = Variables(case, [d[:2] for d in drawn])
    sparse = Variables(case, [(table, slots)])
    lazy = Variables(case, [(table, slots)])
    for _ in range(3):
        dense.apply([tf.constant(d[2]) for d in drawn])
        sparse.sparse_apply([tf.constant(rows)], [tf.constant(ids)], mode="dense")
        lazy.sparse_apply([tf.constant(rows)], [tf.constant(ids)])
    for name, each in (("dense", dense), ("sparse", sparse), ("lazy", lazy)):
        for i, value in enumerate(each.bytes()):
            saved[f"{case} {name} {i}"] = np.frombuffer(value, np.uint8)
np.savez(sys.argv[1], **saved)
"""


def stepped(path, threads, isa):
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(path)],
        cwd=style_test.ROOT,
        env={**environment, "TF_OPTIM_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(path) as saved:
        return {name: saved[name].tobytes() for name in saved.files}


@pytest.fixture(scope="module")
def of_one_thread(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "steps.npz"
    return stepped(path, 1, "scalar")


ISAS = library.native().isas()
# This machine's own choice with one thread and with many, and each other set.
WAYS = [(1, ISAS[-1]), (8, ISAS[-1])] + [(2, isa) for isa in ISAS[1:-1]]


@pytest.mark.parametrize(("threads", "isa"), WAYS)
def test_same_bytes(of_one_thread, tmp_path, threads, isa):
    after = stepped(tmp_path / "steps.npz", threads, isa)
    differ = {name for name, value in of_one_thread.items() if after[name] != value}
    # A norm over a variable may be summed in another order: a few last digits.
    lamb = {name for name in differ if name.startswith("Lamb")}
    assert differ == lamb
    for name in lamb:
        left, right = (
            np.frombuffer(each[name], np.float32) for each in (after, of_one_thread)
        )
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


def test_the_op_refuses_an_instruction_set_that_is_none(tmp_path):
    with pytest.raises(AssertionError, match="must be one of .*Received: sse9"):
        stepped(tmp_path / "steps.npz", 1, "sse9")


def test_the_table_has_a_case_of_each_mechanism():
    assert {c.optimizer.mechanism for c in cases.CASES} == {
        c.optimizer.mechanism for c in cases.KINDS
    }
