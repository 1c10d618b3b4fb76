"""Lion with cautious steps."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class CautiousLion(flavour.FusedOptimizer, base.Optimizer):
    r"""Lion that leaves out what would go up along the gradient.

    With g the gradient of variable p and u what `Lion` subtracts from p:

        c = 1 where u * g > 0, else 0
        p -= u * c / max(mean(c), 0.001)

    The mean is over the variable, so that a step is as long as Lion's.

    Args:
        beta_1: the share of the momentum in a step, in [0, 1]. Default: 0.9.
        beta_2: the decay of the momentum, in [0, 1]. Default: 0.99.

    Example:

    >>> opt = CautiousLion(learning_rate=0.1)
    >>> var = tf.Variable([10.0, 0.0])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0]:.4f}")
    9.8000

    Reference:
        [Liang et al., 2024](https://arxiv.org/abs/2411.16085); the bound of 0.001 is
        that of the authors' program.
    """

    _spec = specs.Spec("CautiousLion")

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.0001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.99,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
