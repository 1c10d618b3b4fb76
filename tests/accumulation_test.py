"""`gradient_accumulation_steps` with sparse gradients: the mean of a window, by row.

tf_keras has no gradient accumulation.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models, numerics
from tests.marks import (
    a_few,
    both_ways,
    keras_3_only,
    modes,
    richest,
    stock_kinds,
)
from tests.sparse_test import assert_sparse_step, slot_arrays

pytestmark = keras_3_only

ROWS = 12
SHAPES = ((ROWS, 6), (6,))
STEPS = 4
# Ids of each step: gradients of half as many as the table has rows are kept, of more
# are added to the accumulator.
ADDED, KEPT = (5, 0, 3, 9), (1, 0, 2, 3)
both_counts = pytest.mark.parametrize("counts", [ADDED, KEPT], ids=["added", "kept"])


def draw_window(rng, counts=ADDED):
    """For each step ids, their gradients and a dense gradient; sums are exact."""
    steps = []
    for count in counts:
        ids = rng.integers(0, ROWS, size=count)
        values = rng.integers(-8, 9, size=(count, 6)) / 4.0
        bias = rng.integers(-8, 9, size=6) / 4.0
        steps.append(
            (ids, tf.constant(values, "float32"), tf.constant(bias, "float32"))
        )
    return steps


class Training:
    """A table with sparse gradients and a bias with dense ones."""

    def __init__(self, case, make=models.ours, how="eager", dtype="float32", **options):
        self.variables = models.variables(SHAPES, dtype)
        self.optimizer = make(case, **options)
        self.optimizer.build(self.variables)
        self.sparse = make is models.ours
        self._apply = self._apply_eagerly
        if how != "eager":
            self._apply = tf.function(
                self._apply_eagerly, jit_compile=how == "jit", reduce_retracing=True
            )

    def _apply_eagerly(self, ids, values, bias):
        grads = models.slices(ids, values, ROWS)
        grads = grads if self.sparse else models.dense(grads)
        self.optimizer.apply_gradients(zip((grads, bias), self.variables, strict=True))

    def step(self, ids, values, bias):
        self._apply(tf.constant(ids), values, bias)

    def window(self, steps):
        for step in steps:
            self.step(*step)
        return self

    def accumulators(self):
        return [v.numpy() for v in self.optimizer._accumulated_gradients]

    def values(self):
        return models.everything(self.variables, self.optimizer)


def accumulating(case, steps=STEPS, **options):
    return Training(case, gradient_accumulation_steps=steps, **options)


def concatenated(window):
    ids, values, biases = zip(*window, strict=True)
    grad = np.concatenate(values) / np.array(len(window), values[0].dtype.name)
    return np.concatenate(ids), grad, sum(biases) / len(window)


def assert_same_bits(left, right):
    for a, b in zip(left, right, strict=True):
        assert numerics.same_bits(a, b)


def assert_close(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 1e-6, "atol": 1e-6}))


@both_ways
@modes
@richest
def test_a_window_is_one_step_with_its_mean(case, mode, graph):
    rng = np.random.default_rng(0)
    how = "function" if graph else "eager"
    training = accumulating(case, how=how, sparse_update=mode)
    rate = models.rate(case)
    table, optimizer = training.variables[0], training.optimizer
    for iterations in range(3):
        before = table.numpy(), slot_arrays(case, optimizer, 0)
        window = draw_window(rng, (KEPT, ADDED, KEPT)[iterations])
        for step in window[:-1]:
            training.step(*step)
            assert_same_bits([table.numpy()], before[:1])
        training.step(*window[-1])
        after = table.numpy(), slot_arrays(case, optimizer, 0)
        ids, grad, _ = concatenated(window)
        assert_sparse_step(case, before, after, grad, ids, mode, rate, iterations)
        assert not any(np.any(a) for a in training.accumulators())
    assert int(optimizer.iterations) == 3


TAILS = (
    {"clipvalue": 0.2},
    {"clipnorm": 0.5, "weight_decay": 0.1},
    {"global_clipnorm": 0.5},
)


@pytest.mark.parametrize("tail", TAILS, ids="+".join)
@modes
@a_few
def test_clipping_and_decay_see_the_mean(case, mode, tail):
    rng = np.random.default_rng(1)
    several = accumulating(case, sparse_update=mode, **tail)
    one = Training(case, sparse_update=mode, **tail)
    for counts in (ADDED, KEPT, KEPT):
        window = draw_window(rng, counts)
        several.window(window)
        one.step(*concatenated(window))
    for left, right in zip(several.variables, one.variables, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


@a_few
def test_rows_are_not_looked_for_while_they_are_known(case):
    """Nor is the table's accumulator read or cleared as a whole."""
    rng = np.random.default_rng(2)
    training = accumulating(case).window(draw_window(rng))
    window = [(np.array([1, 4]), tf.ones([2, 6]), tf.ones([6]))] * STEPS
    training.window(window[:2])
    table = training.variables[0].numpy()
    accumulator = training.optimizer._accumulated_gradients[0]
    unseen = accumulator + tf.one_hot([7], ROWS, axis=0)
    tf.raw_ops.AssignVariableOp(resource=accumulator.handle, value=unseen)
    training.window(window[2:])
    changed = np.flatnonzero((training.variables[0].numpy() != table).any(axis=1))
    assert list(changed) == [1, 4]
    left = training.accumulators()[0]
    assert left[7].all() and not np.delete(left, 7, axis=0).any()


@both_counts
@stock_kinds
def test_mid_window_state_is_that_of_stock(case, counts, tmp_path):
    """Values, and checkpoints in both directions, in the middle of a window."""
    rng = np.random.default_rng(3)
    window, rest = draw_window(rng, counts), draw_window(rng, counts)

    def make(maker):
        mode = {"sparse_update": "dense"} if maker is models.ours else {}
        return accumulating(case, make=maker, **mode)

    mine, theirs = make(models.ours), make(models.stock)
    assert_close(mine.window(window[:3]).values(), theirs.window(window[:3]).values())
    results = []
    for old, maker in (
        (mine, models.ours),
        (theirs, models.ours),
        (mine, models.stock),
    ):
        new = make(maker)
        read_checkpoint(new, old, tmp_path)
        assert_same_bits(new.accumulators(), old.accumulators())
        results.append(new.window(window[3:] + rest).values())
    assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    assert_close(results[2], results[0], rtol=1e-5, atol=1e-5)


def read_checkpoint(training, other, folder):
    path = tf.train.Checkpoint(o=other.optimizer, v=other.variables).write(
        str(folder / "state")
    )
    restored = tf.train.Checkpoint(o=training.optimizer, v=training.variables)
    restored.read(path).assert_consumed()


def set_weights(training, other, folder):
    del folder
    for mine, its in zip(training.variables, other.variables, strict=True):
        mine.assign(its)
    training.optimizer.set_weights(other.optimizer.get_weights())


def load_own_variables(training, other, folder):
    del folder
    for mine, its in zip(training.variables, other.variables, strict=True):
        mine.assign(its)
    store = {}
    other.optimizer.save_own_variables(store)
    training.optimizer.load_own_variables(store)


def assign(training, other, folder):
    del folder
    pairs = zip(
        (*training.variables, *training.optimizer.variables),
        (*other.variables, *other.optimizer.variables),
        strict=True,
    )
    for mine, its in pairs:
        mine.assign(its)


WAYS = (read_checkpoint, set_weights, load_own_variables, assign)


ARRIVALS = [
    pytest.param(way, done, id=f"{way.__name__}-at step {done}")
    for way in WAYS
    for done in (0, 2, 3)
]


@pytest.mark.parametrize(("way", "done"), ARRIVALS)
@both_counts
@both_ways
def test_state_that_comes_in_the_middle_of_a_window(way, done, counts, graph, tmp_path):
    """The rows of the optimizer that it comes from count, not its own."""
    how = "function" if graph else "eager"
    rng = np.random.default_rng(4)
    window, foreign = draw_window(rng, counts), draw_window(rng, counts)
    case = cases.RICHEST[0]
    other = accumulating(case, how=how).window(window[:2])
    training = accumulating(case, how=how).window(foreign[:done])
    way(training, other, tmp_path)
    rest = window[2:] + draw_window(rng)
    assert_same_bits(training.window(rest).values(), other.window(rest).values())


@pytest.mark.parametrize("dense_step", range(STEPS))
@both_counts
@a_few
def test_a_dense_gradient_within_a_window(case, counts, dense_step):
    """As for a table that is looked up in some steps and multiplied in others."""
    rng = np.random.default_rng(5)
    mixed = accumulating(case, sparse_update="dense")
    plain = accumulating(case)
    plain.sparse = False
    for window in range(3):
        for i, step in enumerate(draw_window(rng, counts)):
            mixed.sparse = (window, i) != (1, dense_step)
            mixed.step(*step)
            plain.step(*step)
            assert_same_bits(mixed.accumulators(), plain.accumulators())
    assert_same_bits(mixed.values(), plain.values())


@pytest.mark.parametrize("at", [1, STEPS - 1], ids=["within", "at the end"])
@both_ways
@a_few
def test_wrong_id_changes_nothing(case, graph, at):
    training = accumulating(case, how="function" if graph else "eager")
    window = draw_window(np.random.default_rng(6))
    training.window(window[:at])
    before = training.values()
    ids = np.array([1, ROWS, 3])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 12\)"):
        training.step(ids, tf.ones([3, 6]), tf.ones([6]))
    assert_same_bits(training.values(), before)
    # And the window goes on as if it had not been.
    training.window(window[at:])
    whole = accumulating(case).window(window)
    assert_close(training.values(), whole.values())


@a_few
def test_wrong_shape_changes_nothing(case):
    training = accumulating(case)
    training.window(draw_window(np.random.default_rng(6))[:1])
    before = training.values()
    for values, bias in ((tf.ones([3, 5]), tf.ones([6])), (tf.ones([3, 6]), 1.0)):
        with pytest.raises(ValueError, match="must have shape"):
            training.step(np.array([1, 2, 3]), values, tf.constant(bias))
        assert_same_bits(training.values(), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_gradients_add_up_in_float32(dtype):
    """Sixteen bits would lose what is small beside the sum."""
    training = accumulating(cases.RICHEST[0], dtype=dtype)
    for value in (1024.0, 0.25):
        values = tf.fill([1, 6], tf.constant(value, dtype))
        training.step(np.array([3]), values, tf.zeros([6], dtype))
    assert training.accumulators()[0][3, 0] == 1024.25


@modes
@a_few
def test_jit_compile(case, mode):
    """Shapes are static there: the window is summed over the whole table."""
    rng = np.random.default_rng(7)
    jit = accumulating(case, how="jit", sparse_update=mode, clipnorm=2.0)
    plain = accumulating(case, sparse_update=mode, clipnorm=2.0)
    for _ in range(2):
        window = draw_window(rng, counts=(4, 4, 4, 4))
        jit.window(window)
        plain.window(window)
    assert_close(jit.values(), plain.values(), rtol=1e-5, atol=1e-6)
    # And from the one to the other, in the middle of a window.
    window = draw_window(rng, counts=(4, 4, 4, 4))
    jit.window(window[:2])
    plain.window(window[:2])
    jit._apply = jit._apply_eagerly
    assert_close(
        jit.window(window[2:]).values(),
        plain.window(window[2:]).values(),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@a_few
def test_fit_in_small_batches_is_fit_in_large_ones(case, jit):
    x, y = models.recommender_data(unique=False)
    results = []
    for steps in (None, 4):
        options = {"gradient_accumulation_steps": steps, "clipnorm": 1.0}
        model = models.compiled(
            models.recommender(),
            models.ours(case, **options),
            jit_compile=jit and bool(steps),
        )
        model.fit(x, y, 16 // (steps or 1), 3, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == 3
        results.append(model.get_weights())
    assert_close(*results, rtol=1e-4, atol=1e-5)


@a_few
def test_loss_scale_and_averages_beside_it(case):
    """Together with `loss_scale_factor` and `use_ema`, as without them."""
    rng = np.random.default_rng(8)
    windows = [draw_window(rng) for _ in range(2)]
    plain = accumulating(case)
    scaled = accumulating(case, loss_scale_factor=8.0, use_ema=True, ema_momentum=0.5)
    for window in windows:
        plain.window(window)
        scaled.window([(ids, values * 8, bias * 8) for ids, values, bias in window])
    for left, right in zip(scaled.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(left, right)
    averages = scaled.optimizer._model_variables_moving_average
    assert not np.array_equal(averages[0], scaled.variables[0])


@both_counts
@both_ways
@a_few
def test_failed_step_is_not_counted(case, graph, counts):
    """Whether it is one that accumulates or the one that ends the window."""
    rng = np.random.default_rng(8)
    how = "function" if graph else "eager"
    window = draw_window(rng, counts)
    wrong = (np.array([1, ROWS]), *draw_window(rng, (2,))[0][1:])
    failing, other = (accumulating(case, how=how) for _ in range(2))
    for step in window:
        before = failing.values()
        with pytest.raises(tf.errors.InvalidArgumentError):
            failing.step(*wrong)
        assert_same_bits(failing.values(), before)
        failing.step(*step)
        other.step(*step)
    assert_same_bits(failing.values(), other.values())
