"""Training with jit_compile=True: optimizers, models, control flow, processes."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models
from tests.marks import both_flavours, few, kinds, modes, richest
from tf_optim import library

# A few steps, so that what one step may differ by (see xla_test.py) adds up. Models
# differ by what XLA makes of their own arithmetic, too.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
MODEL = {"rtol": 1e-4, "atol": 1e-5}


def assert_same(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or CLOSE))


class Training:
    """A table and a dense variable under one optimizer."""

    def __init__(self, case, **arguments):
        self.variables = models.variables(((10, 3), (4,)))
        self.optimizer = models.ours(case, **arguments)
        self.optimizer.build(self.variables)

    def step(self, size=1.0):
        table, bias = self.variables
        slices = tf.IndexedSlices(
            tf.reshape(tf.range(12.0) / 5.0 - 1.0, [4, 3]) * size,
            tf.constant([7, 1, 7, 0]),
        )
        self.optimizer.apply_gradients([(slices, table), (bias * size, bias)])

    def values(self):
        state = models.state(self.optimizer)
        return [v.numpy() for v in self.variables] + state


TAILS = (
    {},
    {"clipvalue": 0.3, "weight_decay": 0.1},
    {"clipnorm": 0.5},
    {"global_clipnorm": 0.5, "weight_decay": 0.05},
)


@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: "+".join(tail) or "plain")
@modes
@richest
def test_optimizer(case, mode, tail):
    jit, plain = (Training(case, sparse_update=mode, **tail) for _ in range(2))
    step = tf.function(jit.step, jit_compile=True)
    for _ in range(2):
        step()
        plain.step()
    assert_same(jit.values(), plain.values())
    assert int(jit.optimizer.iterations) == 2


@kinds
def test_learning_rate_that_changes_between_steps(case):
    """It is an input of the compiled step, not a constant of it."""
    jit, plain = Training(case), Training(case)
    step = tf.function(jit.step, jit_compile=True)
    for rate in (case.optimizer.learning_rate, 0.5):
        for training in (jit, plain):
            training.optimizer.learning_rate = rate
        step()
        plain.step()
        assert_same(jit.values(), plain.values())


def _nested(training):
    inner = tf.function(training.step)
    middle = tf.function(lambda size: inner(size))
    for size in (1.0, 0.5, 0.25):
        middle(tf.constant(size))


def _cond(training):
    for i in range(3):
        tf.cond(
            tf.equal(training.optimizer.iterations, i),
            lambda: (training.step(tf.constant(0.5)), tf.constant(0))[1],
            lambda: tf.constant(0),
        )


def _cond_not_taken(training):
    tf.cond(
        training.variables[1][0] > 1e9,
        lambda: (training.step(tf.constant(9.0)), tf.constant(0))[1],
        lambda: tf.constant(0),
    )
    training.step()


def _while_loop(training):
    def body(i):
        training.step(1.0 / tf.cast(i + 1, tf.float32))
        return [i + 1]

    tf.while_loop(lambda i: i < 3, body, [tf.constant(0)])


FLOWS = (_nested, _cond, _cond_not_taken, _while_loop)


@both_flavours
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
@kinds
def test_control_flow(case, flow):
    jit, plain = Training(case), Training(case)
    before = plain.values()
    tf.function(lambda: flow(jit), jit_compile=True)()
    tf.function(lambda: flow(plain))()
    assert_same(jit.values(), plain.values())
    assert int(jit.optimizer.iterations) == (1 if flow is _cond_not_taken else 3)
    assert not np.allclose(before[0], plain.values()[0])


@both_flavours
@modes
@kinds
def test_values_read_around_steps(case, mode):
    """A step is made in the variables' memory: what was read before stays."""

    def read_and_step(training):
        reads = [v.read_value() for v in training.variables]
        for size in (1.0, 0.5):
            training.step(size * reads[1][0])
            reads += [v.read_value() for v in training.variables]
        return reads

    jit, plain = (Training(case, sparse_update=mode) for _ in range(2))
    assert_same(
        tf.function(read_and_step, jit_compile=True)(jit),
        tf.function(read_and_step)(plain),
    )


def fit(case, jit, policy=None, arguments=None, **compile_arguments):
    """Weights, slots and losses after a short fit of an embedding model."""
    tf.keras.mixed_precision.set_global_policy(policy or "float32")
    try:
        model = models.recommender()
        optimizer = models.ours(case, case.optimizer.learning_rate, **(arguments or {}))
        models.compiled(model, optimizer, jit_compile=jit, **compile_arguments)
        ids, targets = models.recommender_data(unique=False)
        history = model.fit(ids, targets, 4, 2, verbose=0, shuffle=False)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert int(optimizer.iterations) == 8
    weights = [np.asarray(w) for w in model.get_weights()]
    return [*weights, *models.state(optimizer)], history.history["loss"]


def assert_fit(case, tolerance=None, **arguments):
    (jit, jit_loss), (plain, plain_loss) = (
        fit(case, jit, **arguments) for jit in (True, False)
    )
    tolerance = tolerance or MODEL
    assert_same(jit, plain, **tolerance)
    np.testing.assert_allclose(jit_loss, plain_loss, **tolerance)
    assert jit_loss[-1] < jit_loss[0]


@both_flavours
@few
def test_fit_of_an_embedding_model(case):
    assert_fit(case)


@both_flavours
@modes
def test_fit_with_clipping_decay_and_several_steps_at_once(mode):
    arguments = {"sparse_update": mode, "clipnorm": 0.5, "weight_decay": 0.01}
    assert_fit(cases.RICHEST[1], arguments=arguments, steps_per_execution=2)


# Activations have 8 bits (11 in float16), and XLA keeps more where it fuses.
POLICIES = {"mixed_bfloat16": 2**-6, "mixed_float16": 2**-8}


@both_flavours
@pytest.mark.parametrize("policy", POLICIES)
def test_fit_in_mixed_precision(policy):
    """float16 wraps the optimizer into stock's LossScaleOptimizer."""
    close = POLICIES[policy]
    case = cases.RICHEST[0]
    assert_fit(case, policy=policy, tolerance={"rtol": close, "atol": close})


@both_flavours
def test_fit_without_the_library(monkeypatch):
    library.ops()
    monkeypatch.setattr(library, "xla_error", lambda: "no such file")
    with pytest.raises(RuntimeError, match="pass jit_compile=False.*no such file"):
        fit(cases.RICHEST[0], True)
    fit(cases.RICHEST[0], False)


# --- in processes of their own

STEPS = """
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
if {compile_first}:
    tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1))
    tf.function(lambda x: x * 2)(tf.constant(1))
from tests import cases
from tests.xla_training_test import Training
context.enable_run_metadata()
saved = {{}}
for case in cases.KINDS:
    training = Training(case, clipvalue=0.5)
    step = tf.function(training.step, jit_compile={jit})
    for _ in range(3):
        step()
    saved |= {{f"{{case}} {{i}}": v for i, v in enumerate(training.values())}}
ran = set()
for function in context.export_run_metadata().function_graphs:
    for graph in function.partition_graphs:
        ran |= {{node.op for node in graph.node}}
np.savez({path!r}, ops=sorted(ran), **saved)
"""


def run_steps(path, jit, compile_first=False, flags=""):
    """The values after the steps, and the types of the nodes that TensorFlow ran."""
    program = STEPS.format(jit=jit, compile_first=compile_first, path=str(path))
    environment = {**os.environ, "TF_XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("XLA_FLAGS", None)  # as XLA is for everybody
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=pathlib.Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(path) as saved:
        ops = {str(op) for op in saved["ops"]}
        return [saved[name] for name in saved.files if name != "ops"], ops


def expected_steps():
    expected = []
    for case in cases.KINDS:
        training = Training(case, clipvalue=0.5)
        for _ in range(3):
            training.step()
        expected += training.values()
    return expected


def test_import_after_tensorflow_has_compiled_a_function(tmp_path):
    after, _ = run_steps(tmp_path / "a.npz", True, True)
    assert_same(after, expected_steps())


def test_auto_clustering_leaves_results_unchanged(tmp_path):
    clusters = {"_XlaCompile", "_XlaRun", "XlaLaunch", "_XlaLaunch"}
    _, without = run_steps(tmp_path / "a.npz", None)
    assert not clusters & without
    flags = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=1"
    after, ops = run_steps(tmp_path / "b.npz", None, flags=flags)
    assert clusters & ops, ops
    assert_same(after, expected_steps())
