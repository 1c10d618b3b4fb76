"""Row-wise Adagrad."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class RowWiseAdagrad(flavour.FusedOptimizer, base.Optimizer):
    r"""RowWiseAdagrad: Adagrad with one accumulator for each row of a table.

    With g the gradient of variable p, whose first dimension counts its rows:

        a[row] += mean(g[row]^2)
        p[row] -= learning_rate * g[row] / sqrt(a[row] + epsilon)

    For embedding tables: the slot is 4 bytes a row instead of as much as the table. A
    variable of rank 1 has rows of one number, a scalar is a row.

    Args:
        initial_accumulator_value: what a starts at, >= 0. Default: 0.1.
        epsilon: added under the root, >= 0. Default: 1e-7.

    Example:

    >>> opt = RowWiseAdagrad(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9001

    Differences from Keras:
        - Keras has no such optimizer; everything else is as in its Adagrad.
        - Repeated indices of a sparse gradient are summed before anything else.
        - The paper and FBGEMM start a at 0 and add epsilon to the root instead; here
          both are as in Keras' Adagrad.

    Reference:
        [Naumov et al., 2019](https://arxiv.org/abs/1906.00091), section 4; FBGEMM's
        exact row-wise Adagrad.
    """

    _spec = specs.Spec(
        "RowWiseAdagrad",
        checked=(specs.INITIAL,),
        initial={"accumulator": "initial_accumulator_value"},
        slot_dtypes=("float32",),
        why_not_packed="one number per row is small",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: Number = 0.1,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
