"""`patch_keras` under the policy "mixed_float16", for which Keras wraps optimizers."""

import pickle

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours
from tf_optim import loss_scale

pytestmark = both_flavours
stock = tf.keras.optimizers
ADAM = stock.Adam


@pytest.fixture(autouse=True)
def unpatched():
    yield
    tf_optim.unpatch_keras()


@pytest.fixture
def float16():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.usefixtures("float16")
def test_loss_scaling_that_compile_adds(tmp_path):
    """Keras wraps the optimizer; around one of ours by our class, saved as stock's."""
    results, classes = [], []
    ids = np.arange(32).reshape(8, 4)  # each of them once
    y = np.linspace(-1, 1, 8)[:, None]
    for patched in (False, True):
        if patched:
            tf_optim.patch_keras()
        tf.keras.utils.set_random_seed(0)
        layers = [tf.keras.layers.Embedding(40, 3), tf.keras.layers.Flatten()]
        layers.append(tf.keras.layers.Dense(1, dtype="float32"))
        model = tf.keras.Sequential([tf.keras.layers.Input((4,)), *layers])
        model.compile("adam", "mse")
        model.fit(ids, y, 8, 5, shuffle=False, verbose=0)
        classes.append(type(model.optimizer))
        results.append([*model.get_weights(), *models.state(model.optimizer)])
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)
    assert classes[0] is loss_scale.STOCK
    assert issubclass(classes[1], tf_optim.LossScaleOptimizer)
    assert type(pickle.loads(pickle.dumps(model)).optimizer) is classes[1]
    model.save(tmp_path / "model.keras")
    tf_optim.unpatch_keras()
    again = tf.keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(again) is loss_scale.STOCK
    assert type(again.inner_optimizer) is ADAM
    for left, right in zip(results[1][3:], models.state(again), strict=True):
        np.testing.assert_array_equal(left, right)


def test_loss_scaling_of_an_optimizer_that_stays_stock():
    tf_optim.patch_keras(["SGD"])
    wrapped = tf.keras.mixed_precision.LossScaleOptimizer(stock.Adam())
    assert type(wrapped) is loss_scale.STOCK
    wrapped = tf.keras.mixed_precision.LossScaleOptimizer(stock.SGD())
    assert isinstance(wrapped, tf_optim.LossScaleOptimizer)
