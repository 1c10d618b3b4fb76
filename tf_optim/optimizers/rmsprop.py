"""RMSprop, plain, with momentum, centered, or both."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class RMSprop(flavour.FusedOptimizer, tf.keras.optimizers.RMSprop):
    r"""RMSprop: the gradient divided by the root of its mean square.

    With g the gradient of variable p:

        v = rho * v + (1 - rho) * g^2
        d = v                      or, centered, with the mean gradient a:
        a = rho * a + (1 - rho) * g;  d = max(v - a^2, 0)
        u = learning_rate * g / sqrt(d + epsilon)
        p -= u                     or, with momentum:
        b = momentum * b + u;  p -= b

    Args:
        rho: the decay of v and a, in [0, 1). Default: 0.9.
        momentum: the decay of b, in [0, 1); 0 leaves b out. Default: 0.0.
        epsilon: added under the root, >= 0. Default: 1e-7.
        centered: whether to divide by the estimated standard deviation instead
            of the root mean square. Default: False.

    Example:

    >>> opt = RMSprop(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.6f}")
    9.683772

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything
          else; stock squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots, and with momentum
          moves them.
        - Slots of 16-bit variables are float32.
        - The centered variance is kept from falling below zero by rounding,
          which in stock ends in NaN.

    Reference:
        [Hinton, 2012](
        https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf);
        [Graves, 2013](https://arxiv.org/abs/1308.0850) for `centered`.
    """

    _spec = specs.Spec(
        "RMSprop",
        attributes={"momentum_rate": "momentum"},
        switches={"average_gradient": "centered", "momentum": "momentum"},
        options=(
            {},
            {"momentum": 0.9},
            {"centered": True},
            {"momentum": 0.9, "centered": True},
        ),
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: Number = 0.9,
        momentum: Number = 0.0,
        epsilon: Number | None = 1e-7,
        centered: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
