"""COCOB."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class COCOB(flavour.FusedOptimizer, base.Optimizer):
    r"""COCOB-Backprop: training without a learning rate, by betting on coins.

    Each element bets on the sign of its next gradient. With g the gradient of variable
    p and o (0 at first) how far p has been moved:

        s += g                               # the slot gradient_sum
        l = max(l, |g|)                      # largest
        t += |g|                             # total
        r = max(r - g * o, 0)                # reward, what it has won
        o' = -s / (l * max(t + l, alpha * l)) * (l + r)
        p += learning_rate * (o' - o)

    Nothing moves before the first gradient that is not 0. The first step of an element
    is `learning_rate / alpha` long. As long as `alpha` is not changed, a step with a
    gradient of 0 changes nothing, so "lazy" is what "dense" is. There is nothing to be
    tuned: a `learning_rate` of 1.0, the default, is the paper's.

    Args:
        alpha: keeps the first steps short, >= 1. Default: 100.0.

    Example:

    >>> opt = COCOB()
    >>> var = tf.Variable(10.0)
    >>> for _ in range(2):
    ...     _ = opt.apply_gradients([(tf.identity(var), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9798

    Differences from TensorFlow Addons:
        - Sparse gradients; an element whose gradients were all 0 stays as it is (there
          it becomes NaN); `learning_rate`.

    Reference:
        [Orabona and Tommasi, 2017](https://arxiv.org/abs/1705.07795).
    """

    _spec = specs.Spec(
        "COCOB",
        slot_dtypes=("float32",),
        why_not_packed="its steps are differences of a slot",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        alpha: Number = 100.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
