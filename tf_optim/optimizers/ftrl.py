"""Follow the regularized leader."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Ftrl(flavour.FusedOptimizer, tf.keras.optimizers.Ftrl):
    r"""Ftrl: follow the regularized leader, for sparse linear models.

    With g the gradient of variable p, q = -learning_rate_power and n, z slots:

        n' = n + g^2
        z += g + 2 * l2_shrinkage * p - (n'^q - n^q) / learning_rate * p
        d = n'^q / learning_rate + 2 * l2 + beta / learning_rate
        p = (clip(z, -l1, l1) - z) / d
        n = n'

    `learning_rate_power=-0.5` needs a root; any other power is much slower.

    Args:
        learning_rate_power: how the learning rate falls, <= 0. Default: -0.5.
        initial_accumulator_value: what n starts at, >= 0. Default: 0.1.
        l1_regularization_strength: l1, >= 0. Default: 0.0.
        l2_regularization_strength: l2, >= 0. Default: 0.0.
        l2_shrinkage_regularization_strength: l2_shrinkage, >= 0: a pull towards 0 that
            z remembers. Default: 0.0.
        beta: the paper's beta, >= 0. Default: 0.0.

    Example:

    >>> opt = Ftrl(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.5840

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock sets them from z.
        - Slots of 16-bit variables are float32.

    Reference:
        [McMahan et al., 2013](https://research.google/pubs/pub41159/).
    """

    _spec = specs.Spec(
        "Ftrl",
        attributes={
            "l1": "l1_regularization_strength",
            "l2": "l2_regularization_strength",
            "l2_shrinkage": "l2_shrinkage_regularization_strength",
        },
        slot_dtypes=("float32",),
        why_not_packed="its variable is worked out from its slots",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        learning_rate_power: Number = -0.5,
        initial_accumulator_value: Number = 0.1,
        l1_regularization_strength: Number = 0.0,
        l2_regularization_strength: Number = 0.0,
        l2_shrinkage_regularization_strength: Number = 0.0,
        beta: Number = 0.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
