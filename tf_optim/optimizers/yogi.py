"""Yogi."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Yogi(flavour.FusedOptimizer, base.Optimizer):
    r"""Yogi: Adam whose velocity cannot grow or shrink at once.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * sign(g^2 - v) * g^2
        alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
        p -= alpha * m / (sqrt(v) + epsilon)

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: 1 less the largest change of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-3.
        initial_accumulator_value: what v starts at, >= 0. Default: 1e-6.

    Example:

    >>> opt = Yogi(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9003

    Differences from TensorFlow Addons:
        - `l1_regularization_strength`, `l2_regularization_strength` and
          `activation="tanh"` are not there.
        - A sparse gradient changes the rows it names (`sparse_update="lazy"`), as
          there.

    Reference:
        [Zaheer et al., 2018](https://papers.nips.cc/paper/2018/hash/90365351ccc7437a1309dc64e4db32a3-Abstract.html),
        algorithm 2.
    """

    _spec = specs.Spec(
        "Yogi",
        checked=(specs.INITIAL,),
        initial={"velocity": "initial_accumulator_value"},
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-3,
        initial_accumulator_value: Number = 1e-6,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
