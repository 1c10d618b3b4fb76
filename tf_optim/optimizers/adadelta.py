"""Adadelta."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adadelta(flavour.FusedOptimizer, tf.keras.optimizers.Adadelta):
    r"""Adadelta: the gradient in units of the steps made so far.

    With g the gradient of variable p:

        A = rho * A + (1 - rho) * g^2
        d = sqrt(D + epsilon) / sqrt(A + epsilon) * g
        D = rho * D + (1 - rho) * d^2
        p -= learning_rate * d

    The paper has no learning rate: pass 1.0.

    Args:
        rho: the decay of A and D, in [0, 1). Default: 0.95.
        epsilon: added under both roots, >= 0. Default: 1e-7.

    Example:

    >>> opt = Adadelta(learning_rate=1.0)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9986

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots.
        - Slots of 16-bit variables are float32.
        - Sparse gradients work under tf_keras too, where stock raises TypeError.

    Reference:
        [Zeiler, 2012](https://arxiv.org/abs/1212.5701).
    """

    _spec = specs.Spec("Adadelta")

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: Number = 0.95,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
