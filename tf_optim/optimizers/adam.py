"""Adam and AMSGrad."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adam(flavour.FusedOptimizer, tf.keras.optimizers.Adam):
    r"""Adam: momentum divided by the root of the mean squared gradient.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
        p -= alpha * m / (sqrt(v) + epsilon)

    and with `amsgrad` the largest v so far in the place of v.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0 (the "epsilon hat" of the paper).
            Default: 1e-7.
        amsgrad: whether to use the largest v so far. Default: False.

    Example:

    >>> opt = Adam(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything
          else; stock squares them one by one.
        - tf_keras' `adaptive_epsilon=True` is refused.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` is computed in float64.

    Reference:
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980);
        [Reddi et al., 2018](https://openreview.net/pdf?id=ryQu7f-RZ) for
        `amsgrad`.
    """

    _spec = specs.Spec(
        "Adam",
        options=({}, {"amsgrad": True}, {"cautious": True}),
        switches={"velocity_hat": "amsgrad"},
    )

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        amsgrad: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            **kwargs,
        )
        if getattr(self, "adaptive_epsilon", False):  # only tf_keras has it
            raise ValueError(
                "`adaptive_epsilon` must be False: the fused step has one epsilon "
                "for all steps. Received: adaptive_epsilon=True"
            )
