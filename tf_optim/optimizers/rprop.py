"""Rprop."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Rprop(flavour.FusedOptimizer, base.Optimizer):
    r"""Rprop: steps whose lengths follow how often the gradient's sign changes.

    With g the gradient of variable p, s the length of its step in learning rates (1 at
    first), and d the sign of the gradient before:

        where d * g > 0:  s = min(s * eta_plus, max_step / learning_rate)
        where d * g < 0:  s = max(s * eta_minus, min_step / learning_rate)
        d = sign(g), but 0 where d * g < 0
        p -= learning_rate * s * d

    For gradients of the whole data: noise changes signs.

    Args:
        eta_minus: what shortens a step, in [0, 1). Default: 0.5.
        eta_plus: what lengthens it, >= 1. Default: 1.2.
        min_step: the shortest step, >= 0. Default: 1e-6.
        max_step: the longest step, >= 0. Default: 50.0.

    Example:

    >>> opt = Rprop(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> for _ in range(2):
    ...     _ = opt.apply_gradients([(tf.identity(var), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.7800

    Differences from torch:
        - `etas` and `step_sizes` are two arguments each, and a learning rate that
          changes changes all steps; there it is the first step's length alone.

    Reference:
        [Riedmiller and Braun, 1993](https://doi.org/10.1109/ICNN.1993.298623);
        [Igel and Huesken, 2000](https://doi.org/10.1016/S0925-2312(01)00700-7), where
        it is iRprop-.
    """

    _spec = specs.Spec("Rprop", initial={"step_size": 1.0})

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        eta_minus: Number = 0.5,
        eta_plus: Number = 1.2,
        min_step: Number = 1e-6,
        max_step: Number = 50.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
