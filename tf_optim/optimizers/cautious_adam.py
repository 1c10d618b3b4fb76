"""Adam and AMSGrad with cautious steps."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class CautiousAdam(flavour.FusedOptimizer, base.Optimizer):
    r"""Adam that leaves out what would go up along the gradient.

    With g the gradient of variable p and u what `Adam` subtracts from p:

        c = 1 where u * g > 0, else 0
        p -= u * c / max(mean(c), 0.001)

    The mean is over the variable, so that a step is as long as Adam's. With
    `weight_decay` it is C-AdamW.

    Args:
        beta_1: the decay of the momentum, in [0, 1). Default: 0.9.
        beta_2: the decay of the mean square, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        amsgrad: whether to use the largest mean square so far. Default: False.

    Example:

    >>> opt = CautiousAdam(learning_rate=0.1)
    >>> var = tf.Variable([10.0, 0.0])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0]:.4f}")
    9.8000

    Reference:
        [Liang et al., 2024](https://arxiv.org/abs/2411.16085); the bound of 0.001 is
        that of the authors' program.
    """

    _spec = specs.Spec("CautiousAdam", switches={"velocity_hat": "amsgrad"})

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        amsgrad: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
