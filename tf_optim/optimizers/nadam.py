"""Nadam."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import checks, flavour, keras_private, replicas, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@functools.lru_cache(8)
def _momenta(beta_1, decay):
    """mu_t and the product up to it, for t = 0, 1, ... until 0.96^t is nothing.

    The product is a function of t, so it is right whatever state was loaded:
    tf_keras' files do not hold it, and 16 bits would not do for it.
    """
    t = np.arange(min(1024 / decay, 1e6) + 3)
    mu = beta_1 * (1.0 - 0.5 * 0.96 ** (decay * t))
    mu[0] = 1.0
    return mu, np.cumprod(mu)


@flavour.register
class Nadam(flavour.FusedOptimizer, tf.keras.optimizers.Nadam):
    r"""Nadam: Adam that looks one step ahead.

    With g the gradient of variable p and t the number of the step, from 1:

        mu_t = beta_1 * (1 - 0.5 * 0.96^t)
        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        a = (mu_{t+1} * m / (1 - mu_1 ... mu_{t+1})
             + (1 - mu_t) * g / (1 - mu_1 ... mu_t))
        p -= learning_rate * a / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        schedule_decay: an old spelling: with it mu_t has 0.96^(schedule_decay * t), >
            0. Default: None, which is 1.

    Example:

    >>> opt = Nadam(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8937

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - Under tf_keras the product advances once per step; in a `tf.function` stock's
          is wrong from the second step on.
        - `beta^t`, `mu_t` and their product are computed in float64, the product from
          the number of the step.

    Reference:
        [Dozat, 2016](https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ).
    """

    _spec = specs.Spec("Nadam")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        *,
        schedule_decay: float | None = None,
        **kwargs: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            **kwargs,
        )
        self.schedule_decay = schedule_decay
        if schedule_decay is not None:
            warnings.warn(
                "`schedule_decay` is an old argument of Nadam that Keras lacks.",
                DeprecationWarning,
                stacklevel=2,
            )

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        value = self.schedule_decay
        if value is None or (isinstance(value, (int, float)) and 0 < value < np.inf):
            return
        raise ValueError(
            "`schedule_decay` must be a finite number > 0 or None. "
            f"Received: schedule_decay={value!r}"
        )

    def get_config(self) -> dict[str, Any]:
        """The stock class's configuration, `sparse_update` and, if it was given,
        `schedule_decay`."""
        config = super().get_config()
        if self.schedule_decay is not None:
            config["schedule_decay"] = self.schedule_decay
        return config

    def _momenta_at(self, t):
        """mu of a step, of the one behind it, and the product up to the first."""
        if checks.static_value(self.beta_1) is None:
            raise ValueError(
                "`beta_1` of Nadam must be known when a step is traced: a number. "
                f"Received: {self.beta_1!r}"
            )
        decay = 1.0 if self.schedule_decay is None else self.schedule_decay
        mu, products = _momenta(float(self.beta_1), float(decay))
        known = tf.minimum(t, len(mu) - 2)
        beyond = tf.cast(t - known, tf.float64)
        product = tf.gather(products, known) * tf.pow(
            checks.as_tensor(self.beta_1, tf.float64), beyond
        )
        return tf.gather(mu, known), tf.gather(mu, known + 1), product

    def _per_step_hyper(self):
        done = tf.cast(tf.convert_to_tensor(self.iterations), tf.int64)
        return self._momenta_at(done + 1)

    def _ready_to_hand_on(self):
        # A file that was loaded may not hold the product.
        done = tf.cast(tf.convert_to_tensor(self.iterations), tf.int64)
        product, value = keras_private.raw(self._u_product), self._momenta_at(done)[-1]
        if not np.isclose(tf.convert_to_tensor(product), value, rtol=1e-2):  # 16 bits
            product.assign(tf.cast(value, product.dtype))

    def _after_step(self, per_step):
        # For stock, should it go on from here.
        product = keras_private.raw(self._u_product)
        replicas.assign(product, tf.cast(per_step[-1], product.dtype))
