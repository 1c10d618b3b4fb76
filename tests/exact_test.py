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
EXACT = [case for case in cases.CASES if case.is_exact]
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
        self.optimizer.build([self.table])
        self.first_slots = self.slots()
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

    def slots(self):
        slots = keras_private.slots_of(self.optimizer, self.table)
        names = [slot.name for slot in self.optimizer._spec.slots]
        pairs = zip(names, slots, strict=True)
        return {name: slot.numpy() for name, slot in pairs if slot is not None}

    def values(self):
        """By name, all rows up to date."""
        self.optimizer.catch_up()
        return {"var": self.table.numpy(), **self.slots()}


def reference_values(training, steps, weight_decay=None):
    """The same training in float64, every row in every step."""
    case, var, slots = training.case, training.start, training.first_slots
    for step, (ids, factors) in enumerate(batches(steps)):
        var, slots = reference.sparse_step(
            case.name,
            var,
            slots,
            factors + var[ids] / 2,
            learning_rate=rate_of(case, step),
            iterations=step,
            indices=ids,
            mode="dense",
            **case.with_decay(weight_decay),
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
    expected = reference_values(training, 60)
    assert_close(training.values(), expected, 1e-9)


@both_flavours
@kinds
@pytest.mark.parametrize("mode", ["exact", "eventual"])
def test_weight_decay_and_eager_steps(case, mode):
    if not case.is_exact:
        pytest.skip(f"{case.name} has no such mode")
    training = Training(case, mode, weight_decay=0.03).run(40, eager=True)
    expected = reference_values(training, 40, 0.03)
    assert_close(training.values(), expected, 1e-9)


@every_case
def test_slots_that_no_training_has_made(case):
    """As after a checkpoint of other options, which may lack one of the slots."""
    if case.name == "COCOB":
        pytest.skip("COCOB's slots and no others say where its variable is")
    results = []
    for mode in ("exact", "dense"):
        training = Training(case, mode)
        optimizer = training.optimizer
        optimizer.iterations.assign(10)
        slots = keras_private.slots_of(optimizer, training.table)
        for i, spec in enumerate(optimizer._spec.slots):
            if slots[i] is not None:
                value = np.random.default_rng(i).normal(size=slots[i].shape)
                value = (
                    np.abs(value) if spec.positive or not spec.per_element else value
                )
                slots[i].assign(value * (0.01 if "hat" in spec.name else 1.0))
        results.append(training.run(12).values())
    assert_close(*results, 1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_other_dtypes_are_as_near_as_rounding_lets_them(dtype):
    case = next(case for case in EXACT if str(case) == "Adam-plain")
    exact, dense = (Training(case, mode, dtype).run(40) for mode in ("exact", "dense"))
    eps = {"float32": 2e-6, "float16": 2e-2, "bfloat16": 2e-1}[dtype]
    for name, value in dense.values().items():
        np.testing.assert_allclose(
            np.float64(exact.values()[name]), np.float64(value), eps, eps
        )


# beta_1 at or above the root of beta_2, where the sum over idle steps has no short
# series, and a few where it has.
BETAS = [(0.9, 0.999), (0.0, 0.9), (0.95, 0.98), (0.8, 0.7), (0.9, 0.5), (0.99, 0.999)]


@pytest.mark.parametrize("betas", BETAS, ids=str)
@pytest.mark.parametrize("name", ["Adam", "Adamax", "Nadam"])
def test_any_betas_and_long_idle_rows(name, betas):
    """A row that lies idle for hundreds of steps, against taking each of them."""
    results = []
    for mode in ("exact", "dense"):
        table = tf.Variable(np.linspace(-1, 1, 8).reshape(4, 2), dtype="float64")
        optimizer = getattr(tf_optim, name)(
            0.01, *betas, epsilon=1e-3, sparse_update=mode
        )

        @tf.function
        def train(ids, table=table, optimizer=optimizer):
            for i in tf.range(tf.size(ids)):
                rows = tf_optim.lookup(table, ids[i : i + 1])
                gradient = models.slices(ids[i : i + 1], rows - 0.3, 4)
                optimizer.apply_gradients([(gradient, table)])

        # Row 0 for a start, row 1 in between, row 2 at the end, row 3 never.
        train(tf.constant([0, 1, 0] + [1] * 300 + [0] + [1] * 40 + [2, 0]))
        optimizer.catch_up()
        results.append([table.numpy(), *(v.numpy() for v in optimizer.variables)])
    for exact, dense in zip(*results, strict=True):
        np.testing.assert_allclose(exact, dense, rtol=1e-9, atol=1e-11)


def test_lions_momentum_that_runs_out():
    """In float32 0.5^k is 0 after 127 steps; then Lion's sign is 0 too."""
    results = []
    for mode in ("exact", "dense"):
        table = tf.Variable(np.ones((3, 4)), dtype="float32")
        optimizer = tf_optim.Lion(0.01, beta_2=0.5, sparse_update=mode)

        @tf.function
        def train(ids, table=table, optimizer=optimizer):
            for i in tf.range(tf.size(ids)):
                rows = tf_optim.lookup(table, ids[i : i + 1])
                optimizer.apply_gradients(
                    [(models.slices(ids[i : i + 1], tf.ones_like(rows), 3), table)]
                )

        train(tf.constant([0] + [1] * 400 + [0]))
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_infinite_slots_and_nan_rows_stay_what_dense_makes_them():
    results = []
    for mode in ("exact", "dense"):
        table = tf.Variable([[1.0], [np.nan], [np.inf], [2.0]], dtype="float32")
        optimizer = tf_optim.Adam(0.1, sparse_update=mode)
        optimizer.build([table])
        momentum, velocity, _ = keras_private.slots_of(optimizer, table)
        momentum.assign([[1.0], [1.0], [1.0], [np.inf]])
        velocity.assign([[np.inf], [1.0], [1.0], [1.0]])

        @tf.function
        def train(steps, table=table, optimizer=optimizer):
            for _ in tf.range(steps):
                gradient = models.slices([0], tf.zeros([1, 1]), 4)
                optimizer.apply_gradients([(gradient, table)])

        tf_optim.lookup(table, tf.range(4))
        optimizer.sparse_update = "eventual" if mode == "exact" else mode
        train(tf.constant(1500))
        optimizer.catch_up()
        results.append([v.numpy() for v in (table, momentum, velocity)])
    for exact, dense in zip(*results, strict=True):
        # A momentum of 1e-37 is too small to decay in float32.
        np.testing.assert_allclose(exact, dense, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adamaxs_norm_may_be_as_large_as_its_type(dtype):
    """It is no root, and its inverse may be too small for a float."""
    results = []
    for mode in ("exact", "dense"):
        table = tf.Variable(0.5 * np.ones((3, 1)), dtype=dtype)
        optimizer = tf_optim.Adamax(0.1, sparse_update=mode)
        for row, size in ((1, 3e38), *[(0, 1.0)] * 9):
            tf_optim.lookup(table, [row])
            gradient = tf.constant([[size]], table.dtype)
            optimizer.apply_gradients([(models.slices([row], gradient, 3), table)])
        optimizer.catch_up()
        results.append(table.numpy().astype("float64"))
    assert results[0][1] < 0.3
    np.testing.assert_allclose(*results, rtol=1e-5 if dtype == "float32" else 0.02)
