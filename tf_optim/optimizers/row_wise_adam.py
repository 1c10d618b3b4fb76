"""Row-wise Adam."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class RowWiseAdam(flavour.FusedOptimizer, base.Optimizer):
    r"""RowWiseAdam: Adam with one velocity for each row of a table.

    With g the gradient of variable p, whose first dimension counts its rows, and t the
    number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v[row] += (1 - beta_2) * (mean(g[row]^2) - v[row])
        alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
        p[row] -= alpha * m[row] / (sqrt(v[row]) + epsilon)

    For embedding tables: the slots take half the memory of Adam's, and with
    `slot_dtype="int8"` little more than an eighth. A variable of rank 1 has rows of
    one number, a scalar is a row.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.

    Example:

    >>> opt = RowWiseAdam(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from Keras:
        - Keras has no such optimizer; everything else is as in its Adam.
        - Repeated indices of a sparse gradient are summed before anything else.
        - Under `sparse_update="exact"` the steps that a row has missed are taken one
          by one when it is brought up to date.

    Reference:
        FBGEMM's partial row-wise Adam; [Kingma and Ba,
        2015](https://arxiv.org/abs/1412.6980).
    """

    _spec = specs.Spec("RowWiseAdam")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            **kwargs,
        )
