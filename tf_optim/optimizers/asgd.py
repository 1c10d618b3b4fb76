"""ASGD."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import base, flavour, keras_private, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class ASGD(flavour.FusedOptimizer, base.Optimizer):
    r"""ASGD: gradient descent, and the mean of where it has been.

    With g the gradient of variable p and t the number of the step, from 1:

        eta = learning_rate / (1 + lambd * learning_rate * (t - 1))^alpha
        p -= eta * (g + lambd * p)
        a += (p - a) / max(1, t - 1 - t0)

    a, the slot `mean_var`, is what to evaluate: it is p itself until step t0 + 1 and
    the mean from there on. `assign_means(variables)` sets variables to it.

    Args:
        lambd: the decay of p and of the learning rate, >= 0. Default: 1e-4.
        alpha: the power of the learning rate's decay, >= 0. Default: 0.75.
        t0: the steps before the mean begins, >= 0. Default: 1e6.

    Example:

    >>> opt = ASGD(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    8.9999

    Differences from torch:
        - Weight decay is decoupled.

    Reference:
        [Polyak and Juditsky, 1992](https://doi.org/10.1137/0330046);
        [Xu, 2011](https://arxiv.org/abs/1107.2490).
    """

    _spec = specs.Spec(
        "ASGD",
        starts_at_variable=("mean_var",),
        slot_dtypes=("float32",),
        why_not_packed="its slot is a mean of the variable",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        lambd: Number = 1e-4,
        alpha: Number = 0.75,
        t0: Number = 1e6,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def assign_means(self, variables: Iterable[Any]) -> None:
        """Sets variables to their means, for evaluation.

        Args:
            variables: of those that the optimizer was built with.
        """
        for variable in variables:
            (mean,) = keras_private.slots_of(self, variable)
            variable.assign(tf.cast(mean, keras_private.raw(variable).dtype))
