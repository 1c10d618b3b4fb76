"""AdEMAMix."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import base, checks, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class AdEMAMix(flavour.FusedOptimizer, base.Optimizer):
    r"""AdEMAMix: Adam with a second, slow momentum beside the first.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        n += (1 - b_t) * (g - n)
        v += (1 - beta_2) * (g^2 - v)
        a = m / (1 - beta_1^t) + a_t * n
        p -= learning_rate * a / (sqrt(v / (1 - beta_2^t)) + epsilon)

    where b_t is beta_3 and a_t is alpha, or with `warmup_steps`, up to that step,

        a_t = alpha * t / warmup_steps
        h(b) = log(0.5) / log(b) - 1, the half-life of a mean
        b_t: h(b_t) is the mean of h(beta_1) and h(beta_3), t / warmup_steps of the way

    Args:
        beta_1: the decay of m, in [0, 1); in (0, 1) with `warmup_steps`.
            Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        beta_3: the decay of n, in [0, 1). Default: 0.9999.
        alpha: the share of n, >= 0. Default: 5.0.
        epsilon: added to the root, >= 0. Default: 1e-8.
        warmup_steps: how long alpha and beta_3 grow, >= 0. The paper takes as many as
            the training has. Default: 0.

    Example:

    >>> opt = AdEMAMix(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Reference:
        [Pagliardini et al., 2024](https://arxiv.org/abs/2409.03137), algorithm 1.
    """

    _spec = specs.Spec(
        "AdEMAMix",
        checked=(
            specs.Hyper("", "beta_3", high=1.0),
            specs.Hyper("", "alpha"),
            specs.Hyper("", "warmup_steps"),
        ),
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        beta_3: Number = 0.9999,
        alpha: Number = 5.0,
        epsilon: Number = 1e-8,
        warmup_steps: Number = 0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _per_step_hyper(self):
        beta, share = (
            checks.as_tensor(x, tf.float64) for x in (self.beta_3, self.alpha)
        )
        if not self.warmup_steps:
            return beta, share
        step = tf.cast(tf.convert_to_tensor(self.iterations), tf.float64) + 1.0
        way = tf.minimum(step / float(self.warmup_steps), 1.0)
        start = tf.math.log(checks.as_tensor(self.beta_1, tf.float64))
        end = tf.math.log(beta)
        # Half-lives are linear in the steps, and 1 / log(b) is linear in them.
        growing = tf.exp(1.0 / ((1.0 - way) / start + way / end))
        return tf.where(way < 1.0, growing, beta), share * way
