"""sparse_update="exact": the dense result, by updating the rows that a batch names.

The yardstick is the float64 reference with the whole table's gradient in each step,
which knows of no rows. In float64 what is left is rounding; a closed form of idle
steps that were wrong, or a step forgotten, is far outside.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import both_flavours, kinds
from tf_optim import keras_private, reference

ROWS, WIDTH = 12, 5
EXACT = [case for case in cases.CASES if case.name != "Lamb"]
every_case = pytest.mark.parametrize("case", EXACT, ids=str)


def batches(steps, seed=0, often=4):
    """Ids, some of them repeated, of few rows, so that others lie idle; gradients."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        high = often if step % 9 else ROWS
        yield rng.integers(high, size=4), rng.normal(size=(4, WIDTH))


def rate_of(case, step):
    """A learning rate that changes, in float32 as the optimizers hold it."""
    return float(np.float32(case.optimizer.learning_rate * (1 + step % 5)))


class Training:
    """A table whose gradients depend on the rows that were read."""

    def __init__(self, case, mode="exact", dtype="float64", **arguments):
        rng = np.random.default_rng(3)
        self.start = rng.normal(size=(ROWS, WIDTH))
        self.table = tf.Variable(self.start, dtype=dtype)
        self.optimizer = models.ours(case, sparse_update=mode, **arguments)
        self.case = case
        self.graph = tf.function(self._step)

    def _step(self, ids, factors):
        with tf.GradientTape() as tape:
            rows = tf_optim.lookup(self.table, ids)
            loss = tf.reduce_sum(factors * rows + rows * rows / 4)
        gradient = tape.gradient(loss, self.table)
        self.optimizer.apply_gradients([(gradient, self.table)])

    def run(self, steps, eager=False, seed=0):
        for step, (ids, factors) in enumerate(batches(steps, seed)):
            self.optimizer.learning_rate = rate_of(self.case, step)
            call = self._step if eager else self.graph
            call(tf.constant(ids), tf.constant(factors, self.table.dtype))
        return self

    def values(self):
        """By name, all rows up to date."""
        slots = keras_private.slots_of(self.optimizer, self.table)
        names = [slot.name for slot in self.optimizer._spec.slots]
        self.optimizer.catch_up()
        found = {n: s.numpy() for n, s in zip(names, slots, strict=True) if s is not None}
        return {"var": self.table.numpy(), **found}


def reference_values(case, start, steps, weight_decay=0.0):
    """The same training in float64, every row in every step."""
    var, slots = start, {}
    for slot in case.slots:
        shape = slot.shape(start.shape)
        initial = case.hyper.get("initial_accumulator_value", slot.initial)
        slots[slot.name] = np.full(shape, initial)
    for step, (ids, factors) in enumerate(batches(steps)):
        var, slots = reference.sparse_step(
            case.name,
            var,
            slots,
            factors + var[ids] / 2,
            case.hyper,
            rate_of(case, step),
            step,
            indices=ids,
            mode="dense",
            weight_decay=weight_decay,
        )
    return {"var": var, **slots}


def assert_close(received, expected, rtol):
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(
            received[name], value, rtol=rtol, atol=rtol * scale, err_msg=name
        )


@every_case
def test_the_reference_with_every_row_in_every_step(case):
    training = Training(case).run(60)
    expected = reference_values(case, training.start, 60)
    assert_close(training.values(), expected, 1e-9)


@both_flavours
@kinds
@pytest.mark.parametrize("mode", ["exact", "eventual"])
def test_weight_decay_and_eager_steps(case, mode):
    if case.name == "Lamb":
        pytest.skip("Lamb has no such mode")
    training = Training(case, mode, weight_decay=0.03).run(40, eager=True)
    decay = float(np.float64(0.03))
    expected = reference_values(case, training.start, 40, decay)
    assert_close(training.values(), expected, 1e-9)
