"""Lion."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments

_LEARNING_RATE = 0.001 if flavour.is_keras_3() else 0.0001


@flavour.register
class Lion(flavour.FusedOptimizer, tf.keras.optimizers.Lion):
    r"""Lion: the sign of a momentum.

    With g the gradient of variable p:

        p -= learning_rate * sign(beta_1 * m + (1 - beta_1) * g)
        m = beta_2 * m + (1 - beta_2) * g

    Args:
        beta_1: the share of m in the step, in (0, 1]. Default: 0.9.
        beta_2: the decay of m, in [0, 1]. Default: 0.99.

    Example:

    >>> opt = Lion(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before the sign is taken.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them by the sign
          of what is left.
        - Slots of 16-bit variables are float32.

    Reference:
        [Chen et al., 2023](https://arxiv.org/abs/2302.06675).
    """

    _spec = specs.Spec("Lion")

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = _LEARNING_RATE,
        beta_1: Number = 0.9,
        beta_2: Number = 0.99,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    if not flavour.is_keras_3():

        @property
        def _momentums(self):
            return self.momentums
