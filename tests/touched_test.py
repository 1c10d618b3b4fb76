"""Accumulation of sparse gradients under XLA: which rows an accumulator holds.

Plain SGD on rows: its lazy step is the whole step, so that NumPy has the result in
one line.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import keras_3_only

pytestmark = keras_3_only

ROWS, WIDTH, STEPS, RATE = 40, 3, 3, 0.5
on_both = pytest.mark.parametrize("portable", [False, True], ids=["calls", "portable"])


class Training:
    """A table that is trained by ours and, beside it, by NumPy."""

    def __init__(self, dtype="float64", optimizer=tf_optim.SGD, **options):
        self.rng = np.random.default_rng(1)
        start = self.rng.normal(size=(ROWS, WIDTH))
        self.table = tf.Variable(start, dtype=dtype)
        options = {"gradient_accumulation_steps": STEPS, **options}
        self.optimizer = optimizer(RATE, **options)
        self.optimizer.build([self.table])
        self.compiled = tf.function(self._sparse, jit_compile=True)
        self.of_any_size = tf.function(
            self._sparse,
            input_signature=[
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None, WIDTH], dtype),
            ],
            jit_compile=True,
        )
        self.function = tf.function(self._sparse)
        self.dense = tf.function(self._dense, jit_compile=True)
        self.expected = self.table.numpy().astype("float64")
        self.sums, self.done = np.zeros((ROWS, WIDTH)), 0

    def _sparse(self, ids, values):
        gradient = tf.IndexedSlices(values, ids, (ROWS, WIDTH))
        self.optimizer.apply_gradients([(gradient, self.table)])

    def _dense(self, gradient):
        self.optimizer.apply_gradients([(gradient, self.table)])

    @property
    def accumulator(self):
        return self.optimizer._accumulated_gradients[0].value

    def step(self, way, count=5):
        """Takes a step, and checks what it leaves."""
        if way == "dense":
            gradient = self.rng.normal(size=(ROWS, WIDTH))
            self.dense(tf.constant(gradient, self.table.dtype))
            self.sums += gradient
        else:
            ids = self.rng.integers(0, 8, count)
            values = self.rng.normal(size=(count, WIDTH))
            step = getattr(self, way)
            step(tf.constant(ids), tf.constant(values, self.table.dtype))
            np.add.at(self.sums, ids, values)
        self.done += 1
        if self.done % STEPS == 0:
            self.expected -= RATE * self.sums / STEPS
            self.sums[:] = 0
        self.check()

    def check(self):
        for received, expected in (
            (self.accumulator, self.sums),
            (self.table, self.expected),
        ):
            np.testing.assert_allclose(received.numpy(), expected, atol=1e-12)


@on_both
@pytest.mark.parametrize(
    "ways",
    [
        ["compiled"],
        ["of_any_size"],
        ["compiled", "function"],
        ["compiled", "dense", "of_any_size"],
        ["compiled", "_sparse", "compiled", "compiled", "dense"],
    ],
    ids="-".join,
)
def test_sums_and_steps_in_any_order_of_ways(ways, portable, monkeypatch):
    if portable:
        monkeypatch.setenv("TF_OPTIM_XLA_STEP", "portable")
    training = Training()
    for step in range(3 * STEPS + 1):
        training.step(ways[step % len(ways)], count=5 + step % 3)
    training.step("compiled", count=0)


@pytest.mark.parametrize("way", ["assign", "function", "jit", "weights", "checkpoint"])
def test_an_accumulator_that_is_set_within_a_window(way, tmp_path):
    """Its rows are looked for again, those of no step too."""
    training = Training()
    training.step("compiled")
    sums = np.zeros((ROWS, WIDTH))
    sums[[5, 33]] = 1.0  # no step names the second
    value = tf.constant(sums)
    accumulator = training.accumulator
    if way == "assign":
        accumulator.assign(value)
    elif way in ("function", "jit"):
        tf.function(lambda: accumulator.assign(value), jit_compile=way == "jit")()
    elif way == "weights":
        weights = [
            sums if "accum" in v.path else v.numpy()
            for v in training.optimizer.variables
        ]
        training.optimizer.set_weights(weights)
    else:
        accumulator.assign(value)
        saved = tf.train.Checkpoint(o=training.optimizer)
        saved.write(str(tmp_path / "state"))
        training.sums = sums.copy()
        training.step("compiled")
        saved.read(str(tmp_path / "state")).assert_consumed()
        training.expected = training.table.numpy()
        training.done = 1
    training.sums = sums
    for _ in range(2 * STEPS):
        training.step("compiled")


def test_adam_takes_the_steps_that_it_takes_outside():
    """Rows that no step of a window has named stay as they are."""
    results = []
    for way in ("compiled", "function"):
        training = Training("float32", tf_optim.Adam, clipnorm=1.0)
        training.check = lambda: None
        for _ in range(3 * STEPS):
            training.step(way)
        results.append([v.numpy() for v in training.optimizer.variables])
        results[-1].append(training.table.numpy())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        if one.shape == (ROWS, WIDTH):
            np.testing.assert_array_equal(one[8:], other[8:])


def test_a_variable_that_stands_twice_is_stocks():
    results = []
    for module in (tf.keras.optimizers, tf_optim):
        table = tf.Variable(tf.ones([ROWS, WIDTH]))
        optimizer = module.SGD(RATE, gradient_accumulation_steps=2)
        optimizer.build([table])

        @tf.function(jit_compile=True)
        def step(number, optimizer=optimizer, table=table):
            values = tf.ones([2, WIDTH]) * number
            pairs = [
                (tf.IndexedSlices(values * k, tf.constant([k, 3]), table.shape), table)
                for k in (1, 2)
            ]
            optimizer.apply_gradients(pairs)

        for number in range(4):
            step(tf.constant(float(number)))
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


class Layers(tf.Module):
    """Variables of several ranks and dtypes, trained by dense gradients under XLA."""

    def __init__(self, optimizer):
        shapes = {(4, 3): "float32", (3,): "float64", (): "float32", (2, 2): "float16"}
        shapes[0, 3] = "float32"
        self.layers = [tf.Variable(tf.ones(s, d)) for s, d in shapes.items()]
        self.optimizer = optimizer(0.1, gradient_accumulation_steps=STEPS)
        self.optimizer.build(self.layers)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], jit_compile=True)
    def train(self, step):
        grads = [
            tf.cast(tf.random.stateless_normal(v.shape, [step, 5]), v.dtype)
            for v in self.layers
        ]
        self.optimizer.apply_gradients(zip(grads, self.layers, strict=True))

    @tf.function(input_signature=[])
    def values(self):
        return [tf.identity(v) for v in self.layers]


def test_dense_gradients_are_stocks_and_go_on_in_a_saved_model(tmp_path):
    ours, stock = Layers(tf_optim.Adam), Layers(tf.keras.optimizers.Adam)
    for step in range(10):
        if step == 4:  # in the middle of a window
            tf.saved_model.save(ours, str(tmp_path))
            loaded = tf.saved_model.load(str(tmp_path))
        for each in (ours, stock) if step < 4 else (ours, stock, loaded):
            each.train(tf.constant(step))
    for one, other, third in zip(
        ours.values(), stock.values(), loaded.values(), strict=True
    ):
        rtol = 2e-2 if one.dtype == tf.float16 else 1e-5
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)
        np.testing.assert_array_equal(one, third)
    for sums in ours.optimizer._accumulated_gradients:
        # Of the step that began the last window.
        assert np.any(sums.numpy()) or not sums.numpy().size
