"""Lamb."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Lamb(flavour.FusedOptimizer, base.stock("Lamb")):  # type: ignore[misc]
    r"""Lamb: Adam's step, as long as the variable that it changes.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        r = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        p -= learning_rate * norm(p) / norm(r) * r

    The ratio of norms is 1 where a norm is 0.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.

    Example:

    >>> opt = Lamb(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots, moves them, and has them
          in the norms.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` and the norms are computed in float64.
        - tf_keras has no Lamb; ours works there too.

    Reference:
        [You et al., 2020](https://arxiv.org/abs/1904.00962).
    """

    _spec = specs.Spec("Lamb")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        **kwargs: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            **kwargs,
        )
