"""Where stock's formula fails in its own precision, and ours holds."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, modes

STEPS = 1000


def trained(optimizer, sparse=False):
    """A table after steps whose gradients are constant, but for a rounding error."""
    rng = np.random.default_rng(0)
    constant = np.geomspace(1.0, 100.0, 256).reshape(64, 4)
    table = tf.Variable(np.zeros((64, 4), np.float32))
    ids = tf.range(64)

    @tf.function
    def step(gradient):
        if sparse:
            gradient = tf.IndexedSlices(gradient, ids, tf.constant([64, 4]))
        optimizer.apply_gradients([(gradient, table)])

    for _ in range(STEPS):
        noise = rng.choice([-1e-7, 0.0, 1e-7], size=(64, 4))
        step(tf.constant(constant * (1.0 + noise), tf.float32))
    return table.numpy()


CENTERED = {"rho": 0.9, "centered": True, "epsilon": 1e-7}


@both_flavours
def test_stocks_centered_rmsprop_reaches_nan():
    """Else the test below would show nothing."""
    assert np.isnan(trained(tf.keras.optimizers.RMSprop(1e-4, **CENTERED))).any()


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
