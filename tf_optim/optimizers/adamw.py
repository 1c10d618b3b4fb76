"""AdamW: Adam with weight decay."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import ArgumentsButDecay, LearningRate, Number


@flavour.register
class AdamW(flavour.FusedOptimizer, tf.keras.optimizers.AdamW):
    r"""AdamW: Adam with decoupled weight decay.

    With g the gradient of variable p and t the number of the step, from 1:

        p -= learning_rate * weight_decay * p
        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
        p -= alpha * m / (sqrt(v) + epsilon)

    It is `Adam`'s op, in which the decay costs no pass of its own; with `amsgrad` the
    largest v so far is in the place of v.

    Args:
        weight_decay: the rate at which variables shrink, >= 0;
            `exclude_from_weight_decay` leaves some out. Default: 0.004.
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        amsgrad: whether to use the largest v so far. Default: False.

    Example:

    >>> opt = AdamW(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8960

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them. Weight
          decay too reaches the named rows only.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` is computed in float64.

    Reference:
        [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101);
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980).
    """

    _spec = specs.Spec("Adam", switches={"velocity_hat": "amsgrad"})

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: Number | None = 0.004,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        amsgrad: bool = False,
        **kwargs: Unpack[ArgumentsButDecay],
    ) -> None: ...
