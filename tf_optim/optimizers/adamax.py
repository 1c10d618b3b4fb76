"""Adamax."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adamax(flavour.FusedOptimizer, tf.keras.optimizers.Adamax):
    r"""Adamax: Adam with the largest gradient in the place of the mean square.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        u = max(beta_2 * u, |g|)
        p -= learning_rate / (1 - beta_1^t) * m / (u + epsilon)

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of u, in [0, 1). Default: 0.999.
        epsilon: added to u, >= 0. Default: 1e-7.

    Example:

    >>> opt = Adamax(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          adds to u once for each.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta_1^t` is computed in float64.

    Reference:
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980), section 7.1.
    """

    _spec = specs.Spec("Adamax", attributes={"momentum": "_m", "norm": "_u"})

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
