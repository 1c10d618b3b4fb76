"""Gradient descent, with momentum and Nesterov's."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, keras_private, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class SGD(flavour.FusedOptimizer, tf.keras.optimizers.SGD):
    r"""SGD: gradient descent, plain or with momentum.

    With g the gradient of variable p:

        p -= learning_rate * g                      or, with momentum:
        m = momentum * m - learning_rate * g
        p += m                                      or, with nesterov:
        p += momentum * m - learning_rate * g

    Args:
        momentum: the decay of m, a float in [0, 1]; 0 leaves m out. Default: 0.0.
        nesterov: whether to step from where m leads to. Default: False.

    Example:

    >>> opt = SGD(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from Keras:
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock moves every row by its momentum.
        - Slots of 16-bit variables are float32; tf_keras keeps the slot with
          `momentum=0` too.
        - Under tf_keras repeated indices are summed before Nesterov's step.

    Reference:
        [Polyak, 1964](https://doi.org/10.1016/0041-5553(64)90137-5);
        [Sutskever et al., 2013](https://proceedings.mlr.press/v28/sutskever13.html)
        for `nesterov`.
    """

    _spec = specs.Spec(
        "SGD",
        attributes={"momentum_rate": "momentum", "momentum": "momentums"},
        # tf_keras makes the slot of every SGD, and uses it.
        switches={"momentum": "momentum"} if keras_private.is_keras_3() else {},
        options=({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: Number = 0.0,
        nesterov: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
