"""Where stock's formula fails in its own precision, and ours holds."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, modes

STEPS = 1000


def gradients():
    """A thousand of one table, constant but for a rounding error."""
    rng = np.random.default_rng(0)
    constant = np.geomspace(1.0, 100.0, 256).reshape(64, 4)
    for _ in range(STEPS):
        noise = rng.choice([-1e-7, 0.0, 1e-7], size=(64, 4))
        yield (constant * (1.0 + noise)).astype(np.float32)


def trained(optimizer, sparse=False):
    """A table of zeros after a step with each of these gradients."""
    table = tf.Variable(np.zeros((64, 4), np.float32))
    ids = tf.range(64)

    @tf.function
    def step(gradient):
        if sparse:
            gradient = tf.IndexedSlices(gradient, ids, tf.constant([64, 4]))
        optimizer.apply_gradients([(gradient, table)])

    for gradient in gradients():
        step(tf.constant(gradient))
    return table.numpy()


CENTERED = {"rho": 0.9, "centered": True, "epsilon": 1e-7}


def test_stocks_variance_has_no_root():
    """Else the test below would show nothing.

    Stock's formula in NumPy, whose float32 rounds each operation: where a compiler
    fuses a product and a sum, stock itself may have no NaN here.
    """
    rho, epsilon = np.float32(CENTERED["rho"]), np.float32(CENTERED["epsilon"])
    mean, velocity, fails = np.float32(0), np.float32(0), False
    for gradient in gradients():
        mean = rho * mean + (1 - rho) * gradient
        velocity = rho * velocity + (1 - rho) * np.square(gradient)
        fails |= velocity - np.square(mean) + epsilon < 0
    assert fails.mean() > 0.1


@both_flavours
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@modes
def test_centered_rmsprop_on_nearly_constant_gradients(sparse, mode):
    """Its variance is that of the noise, and its root no more than that of epsilon."""
    optimizer = tf_optim.RMSprop(1e-4, sparse_update=mode, **CENTERED)
    after = trained(optimizer, sparse)
    assert np.isfinite(after).all()
    # Every step goes down, at most by gradient * learning rate / sqrt(epsilon).
    assert (after < -STEPS * 1e-4).all()
    assert (after > -STEPS * 100.0 * 1e-4 / np.sqrt(1e-7)).all()


@both_flavours
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adamax_keeps_what_its_norm_has_seen(bad):
    """As stock: a maximum may let go of the NaN of one of its two numbers."""
    norms = []
    for module in (tf_optim, tf.keras.optimizers):
        optimizer, variable = module.Adamax(0.1), tf.Variable([1.0, 2.0, 3.0])
        optimizer.build([variable])
        for gradient in ([bad, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, bad, 0.5]):
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        norms.append(models.state(optimizer)[-1])
    np.testing.assert_allclose(*norms, rtol=1e-6)


@both_flavours
@pytest.mark.parametrize("way", ["eager", "function", "jit"])
@pytest.mark.parametrize(
    "options",
    [
        {"clipvalue": 1.0},
        {"cautious": True},
        {"use_ema": True, "ema_momentum": 1.0},
        {"averaging": tf_optim.StochasticWeightAveraging(start_averaging=9)},
    ],
    ids=str,
)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_no_decay_leaves_an_infinite_element_infinite(sparse, options, way):
    """0 * inf is NaN: a factor of 0 must not stand for what is left out."""
    optimizer = tf_optim.SGD(0.5, momentum=0.5, **options)
    variable = tf.Variable([[np.inf, 1.0], [-np.inf, 1.0]])
    optimizer.build([variable])

    @tf.function(jit_compile=way == "jit")
    def step():
        gradient = tf.ones([2, 2])
        if sparse:
            gradient = tf.IndexedSlices(gradient, tf.constant([1, 0]), [2, 2])
        optimizer.apply_gradients([(gradient, variable)])

    for _ in range(2):
        step.python_function() if way == "eager" else step()
    np.testing.assert_array_equal(variable, [[np.inf, -0.25], [-np.inf, -0.25]])
    for average in getattr(optimizer, "_model_variables_moving_average", []):
        assert not np.isnan(average.numpy()).any()


@both_flavours
@pytest.mark.parametrize("sparse_update", ["exact", "eventual"])
@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True, "ema_momentum": 1.0},
        {"averaging": tf_optim.StochasticWeightAveraging(start_averaging=9)},
    ],
    ids=str,
)
def test_idle_steps_leave_an_average_that_keeps_all(options, sparse_update):
    optimizer = tf_optim.SGD(0.5, momentum=0.5, sparse_update=sparse_update, **options)
    table = tf.Variable([[np.inf, 1.0], [-np.inf, 1.0], [0.0, 0.0]])
    optimizer.build([table])
    for ids in ([0, 1], [2], [2], [2]):
        ids = tf.constant(ids)
        rows = tf_optim.lookup(table, ids)
        slices = tf.IndexedSlices(tf.ones_like(rows), ids, table.shape)
        optimizer.apply_gradients([(slices, table)])
    optimizer.catch_up()
    moved = 1.0 - 0.5 * (1.0 + 0.5 + 0.25 + 0.125)
    np.testing.assert_array_equal(table[:2], [[np.inf, moved], [-np.inf, moved]])
    for average in optimizer._model_variables_moving_average:
        assert not np.isnan(average.numpy()).any()
