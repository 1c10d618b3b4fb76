"""RectifiedAdam (RAdam)."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class RectifiedAdam(flavour.FusedOptimizer, base.Optimizer):
    r"""RectifiedAdam: Adam that trusts v once enough steps are in it (RAdam).

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        most = 2 / (1 - beta_2) - 1
        length = most - 2 * t * beta_2^t / (1 - beta_2^t)

    and where length > sma_threshold

        r = sqrt((length - 4) * (length - 2) * most
                 / ((most - 4) * (most - 2) * length))
        p -= (learning_rate * r * m / (1 - beta_1^t)
              / (sqrt(v / (1 - beta_2^t)) + epsilon))

    while before it p -= learning_rate * m / (1 - beta_1^t).

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        amsgrad: whether to use the largest v so far. Default: False.
        sma_threshold: the length from which v is trusted, >= 4. Default: 5.0.
        total_steps: with it the learning rate grows from 0 over the first
            `warmup_proportion * total_steps` steps and falls to `min_lr` until
            `total_steps`; an integer >= 0. Default: 0, for neither.
        warmup_proportion: of `total_steps`, in [0, 1]. Default: 0.1.
        min_lr: the learning rate after `total_steps`, >= 0. Default: 0.0.

    Example:

    >>> opt = RectifiedAdam(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from others:
        - TensorFlow Addons: the same arguments and defaults.
        - torch's RAdam adds its epsilon (1e-8) to the root of the uncorrected v, and
          its weight decay is decoupled only with `decoupled_weight_decay=True`.

    Reference:
        [Liu et al., 2020](https://arxiv.org/abs/1908.03265), algorithm 2.
    """

    _spec = specs.Spec(
        "RectifiedAdam",
        options=({}, {"amsgrad": True}),
        checked=(
            specs.Hyper("", "total_steps"),
            specs.Hyper("", "warmup_proportion", high=1.0, closed=True),
            specs.Hyper("", "min_lr"),
        ),
        switches={"velocity_hat": "amsgrad"},
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        amsgrad: bool = False,
        sma_threshold: Number = 5.0,
        total_steps: int = 0,
        warmup_proportion: Number = 0.1,
        min_lr: Number = 0.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        if self.total_steps and int(self.total_steps) != self.total_steps:
            raise ValueError(
                "`total_steps` must be an integer. Received: "
                f"total_steps={self.total_steps!r}"
            )

    def _rate_of_step(self):
        rate = super()._rate_of_step()
        if not self.total_steps:
            return rate
        rate = tf.cast(tf.convert_to_tensor(rate), tf.float64)
        step = tf.cast(tf.convert_to_tensor(self.iterations), tf.float64) + 1.0
        warm = float(self.total_steps) * float(self.warmup_proportion)
        rest = max(float(self.total_steps) - warm, 1.0)
        fallen = tf.minimum(step - warm, rest) / rest
        falling = rate + (float(self.min_lr) - rate) * fallen
        if not warm:
            return falling
        return tf.where(step <= warm, rate * step / warm, falling)
