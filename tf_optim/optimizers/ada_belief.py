"""AdaBelief."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class AdaBelief(flavour.FusedOptimizer, base.Optimizer):
    r"""AdaBelief: Adam that divides by how much gradients differ from their mean.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        s += (1 - beta_2) * ((g - m)^2 - s) + epsilon
        p -= (learning_rate * m / (1 - beta_1^t)
              / (sqrt(s / (1 - beta_2^t)) + epsilon))

    and with `amsgrad` the largest s so far in the place of s. With `rectify` the step
    is multiplied and, as long as s has too few steps in it, taken without the root as
    in `RectifiedAdam`.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of s, in [0, 1). Default: 0.999.
        epsilon: added to s in each step and to the root, >= 0. Default: 1e-14.
        amsgrad: whether to use the largest s so far. Default: False.
        rectify: whether to trust s as far as enough steps are in it. Default: True.
        sma_threshold: with `rectify`, the length of the mean from which s is trusted,
            >= 4. Default: 5.0.

    Example:

    >>> opt = AdaBelief(learning_rate=0.1, rectify=False)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8889

    Differences from TensorFlow Addons:
        - `total_steps`, `warmup_proportion` and `min_lr` are not there: pass a
          schedule as the learning rate.

    Reference:
        [Zhuang et al., 2020](https://arxiv.org/abs/2010.07468), algorithm 2.
    """

    _spec = specs.Spec(
        "AdaBelief",
        options=({}, {"rectify": False}, {"amsgrad": True}),
        switches={"variance_hat": "amsgrad"},
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-14,
        amsgrad: bool = False,
        rectify: bool = True,
        sma_threshold: Number = 5.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
