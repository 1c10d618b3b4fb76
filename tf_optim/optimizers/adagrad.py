"""Adagrad."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adagrad(flavour.FusedOptimizer, tf.keras.optimizers.Adagrad):
    r"""Adagrad: the gradient divided by the root of the sum of its squares.

    With g the gradient of variable p:

        a += g^2
        p -= learning_rate * g / sqrt(a + epsilon)

    Args:
        initial_accumulator_value: what a starts at, >= 0. Default: 0.1.
        epsilon: added under the root, >= 0. Default: 1e-7.

    Example:

    >>> opt = Adagrad(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9001

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Slots of 16-bit variables are float32: sums of squares go on growing.
        - A negative `initial_accumulator_value` is an error; stock ends in NaN.

    Reference:
        [Duchi, Hazan and Singer, 2011](
        https://jmlr.org/papers/v12/duchi11a.html).
    """

    _spec = specs.Spec(
        "Adagrad",
        checked=(specs.INITIAL,),
        slot_dtypes=("float32", "bfloat16"),
        why_not_packed="their sum only grows, and 8 bits would not see what is added",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: Number = 0.1,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
