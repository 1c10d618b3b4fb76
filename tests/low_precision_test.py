"""Models of 16 bits that stock Adam does not train, and ours does.

Stock computes with slots of 16 bits. In bfloat16 beta_2 = 0.999 is 1, so the bias
correction makes every step 0; in float16 the squares of small gradients are 0, so
steps are a gradient over epsilon.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import both_flavours


def losses(optimizer, dtype):
    """Before training, and after each epoch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8)).astype("float32")
    y = 0.1 * np.tanh(x @ rng.normal(size=(8, 4))).astype("float32")
    tf.keras.mixed_precision.set_global_policy(dtype)
    tf.keras.utils.set_random_seed(0)
    try:
        layers = tf.keras.layers
        model = tf.keras.Sequential(
            [layers.Input((8,)), layers.Dense(32, activation="tanh"), layers.Dense(4)]
        )
        model.compile(optimizer, "mse", jit_compile=False)
        assert {tf.as_dtype(v.dtype).name for v in model.trainable_variables} == {dtype}
        before = float(model.evaluate(x, y, verbose=0))
        history = model.fit(x, y, 64, 10, shuffle=False, verbose=0).history["loss"]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    return before, np.asarray(history, np.float64)


@both_flavours
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_adam_trains_where_stock_does_not(dtype):
    before, stock = losses(tf.keras.optimizers.Adam(0.01, beta_2=0.999), dtype)
    assert not (stock < 0.9 * before).any()  # no epoch got anywhere
    before, ours = losses(tf_optim.Adam(0.01, beta_2=0.999), dtype)
    assert ours[-1] < 0.05 * before
