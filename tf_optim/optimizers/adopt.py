"""ADOPT."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adopt(flavour.FusedOptimizer, base.Optimizer):
    r"""Adopt: Adam that divides by the v of the steps before (ADOPT).

    With g the gradient of variable p and t the number of the step, the first sets
    v = g^2 and does nothing else. Later ones:

        b = (t - 1)^clip_exponent
        n = clip(g / max(sqrt(v), epsilon), -b, b)
        m += (1 - beta_1) * (n - m)
        p -= learning_rate * m
        v += (1 - beta_2) * (g^2 - v)

    It converges for any beta_2, which Adam does not.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.9999.
        epsilon: the least that is divided by, >= 0. Default: 1e-6.
        clip_exponent: how fast the bound of n grows with the steps, >= 0.
            Default: 0.25.

    Example:

    >>> opt = Adopt(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> for _ in range(2):
    ...     _ = opt.apply_gradients([(tf.identity(var), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9900

    Differences from the authors' code:
        - Weight decay is taken in the first step too.
        - A row that the first step's gradient does not name starts with v = 0: its
          first step is as long as the bound allows.

    Reference:
        [Taniguchi et al., 2024](https://arxiv.org/abs/2411.02853), algorithm 2, and
        the clipping of the authors' code.
    """

    _spec = specs.Spec("Adopt")

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.9999,
        epsilon: Number = 1e-6,
        clip_exponent: Number = 0.25,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
